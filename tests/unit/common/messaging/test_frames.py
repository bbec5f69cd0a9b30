"""What the client gets to read, whatever a publisher put into its message."""

import asyncio
import random
import struct

import pamqp.frame
import pytest
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from taskbell.contracts import MAX_BODY_BYTES
from taskbell.messaging.wire.frames import KEPT, FrameReader
from taskbell.messaging.wire.properties import CUT, UNREADABLE
from taskbell.messaging.wire.transport import JoiningWriter

FLAGS = {"content_type": 15, "headers": 13, "mode": 12, "expiration": 8, "message_id": 7, "timestamp": 6, "type": 5}


def short(text: bytes) -> bytes:
    return bytes([len(text)]) + text


def long(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def table(name: bytes, value: bytes) -> bytes:
    return long(short(name) + value)


def frame(kind: int, payload: bytes) -> bytes:
    return struct.pack(">BHI", kind, 1, len(payload)) + payload + b"\xce"


def header(**properties: bytes) -> bytes:
    """The header of a body of five bytes with these properties, already encoded, in AMQP's order."""
    flags, rest = 0, b""
    for name, bit in FLAGS.items():
        if name in properties:
            flags |= 1 << bit
            rest += properties[name]
    return frame(2, struct.pack(">HHQH", 60, 0, 5, flags) + rest)


def deliver(routing_key: bytes) -> bytes:
    arguments = short(b"ctag1.x") + struct.pack(">QB", 7, 1) + short(b"taskbell.commands") + short(routing_key)
    return frame(1, struct.pack(">HH", 60, 60) + arguments)


async def frames_of(data: bytes) -> list[bytes]:
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    return await frames_from(reader)


async def frames_from(reader: asyncio.StreamReader) -> list[bytes]:
    """Reads as aiormq does: one byte, six, the rest; until the end."""
    frames = FrameReader(reader)
    found = []
    while not frames.at_eof():
        try:
            head = await frames.readexactly(1) + await frames.readexactly(6)
        except asyncio.IncompleteReadError as error:
            if error.partial or error.expected != 7:
                raise
            break  # the end came between two frames
        found.append(head + await frames.readexactly(struct.unpack(">BHI", head)[2] + 1))
    return found


async def properties_of(data: bytes) -> Basic.Properties:
    (one,) = await frames_of(data)
    _, _, found = pamqp.frame.unmarshal(one)
    assert isinstance(found, ContentHeader)
    assert found.body_size == 5
    return found.properties


def nested(depth: int) -> bytes:
    value = b"V"
    for _ in range(depth):
        value = b"A" + long(value)
    return value


async def test_readable_frames_pass_as_they_are() -> None:
    sent = [
        header(content_type=short(b"application/json"), mode=b"\x02", message_id=short(b"abc")),
        header(message_id=short("größe".encode()), type=short(b"x")),
        header(timestamp=struct.pack(">Q", 1_763_800_000), headers=table(b"a", b"S" + long(b"\xff"))),
        header(expiration=short(b"60000")),
        header(),
        deliver(b"maintenance.update_task_status"),
        deliver("größe".encode()),
        frame(3, b"\xff\xfe\x00"),
        frame(8, b""),
    ]
    assert await frames_of(b"".join(sent)) == sent


@pytest.mark.parametrize("piece", [1, 2, 7, 8, 1000])
async def test_frames_come_whole_however_their_bytes_come_in(piece: int) -> None:
    sent = [header(message_id=short(b"abc")), frame(3, b"x" * 5_000), frame(8, b""), deliver(b"a.key")]
    data = b"".join(sent)
    reader = asyncio.StreamReader()
    reading = asyncio.create_task(frames_from(reader))
    for start in range(0, len(data), piece):
        reader.feed_data(data[start : start + piece])
        await asyncio.sleep(0)
    reader.feed_eof()
    assert await reading == sent


@pytest.mark.parametrize("cut", [1, 6, 7, 20])
async def test_a_connection_that_ends_within_a_frame_says_how_far_it_came(cut: int) -> None:
    whole, torn = frame(8, b""), header(message_id=short(b"abc"))
    with pytest.raises(asyncio.IncompleteReadError) as caught:
        await frames_of(whole + torn[:cut])
    assert caught.value.partial == (torn[:cut] if cut < 7 else torn[7:cut])


async def test_a_server_of_another_version_is_read_to_its_end() -> None:
    reader = asyncio.StreamReader()
    reader.feed_data(b"AMQP\x00\x00\x09\x01 and more")
    reader.feed_eof()
    frames = FrameReader(reader)
    assert await frames.readexactly(1) + await frames.readexactly(6) == b"AMQP\x00\x00\x09"
    assert await frames.read() == b"\x01 and more"
    assert frames.at_eof()


@pytest.mark.parametrize(
    ("properties", "reason"),
    [
        ({"timestamp": struct.pack(">Q", 1_763_800_000_000_000_000)}, "55894"),
        ({"timestamp": struct.pack(">Q", 2**64 - 1)}, ""),
        ({"message_id": short(b"\xff\xfe")}, "codec can't decode byte 0xff"),
        ({"type": short(b"\x80")}, "codec can't decode byte 0x80"),
        ({"headers": table(b"\xc3", b"V")}, "codec can't decode"),
        ({"headers": table(b"a", b"T" + struct.pack(">Q", 2**63))}, "292278994"),
        ({"headers": table(b"a", b"?")}, "Unknown type"),
        ({"headers": table(b"a", nested(3000))}, "recursion"),
        ({"headers": long(b"\xff")}, ""),
        ({"mode": b"\x03"}, "delivery_mode 3"),
        ({"content_type": short(b"text/plain"), "mode": b"\x7f"}, "delivery_mode 127"),
        ({"expiration": short(b"soon")}, "soon"),
        ({"expiration": short(b"")}, "could not convert"),
    ],
)
async def test_what_cannot_be_read_is_replaced_by_a_header_that_says_so(
    properties: dict[str, bytes], reason: str
) -> None:
    found = await properties_of(header(**properties))
    assert dict(found) == dict.fromkeys(Basic.Properties.attributes()) | {
        "headers": found.headers,
        "cluster_id": found.cluster_id,
    }
    assert found.headers is not None
    assert set(found.headers) == {UNREADABLE}
    told = str(found.headers[UNREADABLE])
    assert told.startswith("properties cannot be read: ")
    assert reason in told


async def test_frames_after_an_unreadable_one_are_read_as_before() -> None:
    good = header(message_id=short(b"good"))
    (_, *rest) = await frames_of(header(message_id=short(b"\xff")) + frame(3, b"hello") + good)
    assert rest == [frame(3, b"hello"), good]


async def test_a_routing_key_that_is_not_text_keeps_its_length_and_its_delivery() -> None:
    (one,) = await frames_of(deliver(b"a\xffb"))
    _, _, found = pamqp.frame.unmarshal(one)
    assert isinstance(found, Basic.Deliver)
    assert (found.consumer_tag, found.delivery_tag, found.exchange) == ("ctag1.x", 7, "taskbell.commands")
    assert found.routing_key == "a?b"
    assert found.redelivered


async def test_no_property_bytes_at_all_make_the_client_fail() -> None:
    chance = random.Random(4711)
    for _ in range(3000):
        flags = chance.getrandbits(16) & 0xFFFC
        payload = struct.pack(">HHQH", 60, 0, 5, flags) + chance.randbytes(chance.randrange(0, 60))
        (one,) = await frames_of(frame(2, payload))
        _, _, found = pamqp.frame.unmarshal(one)
        assert isinstance(found, ContentHeader)
        float(found.properties.expiration or 0)
        assert (found.properties.delivery_mode or 0) in (0, 1, 2)


async def test_a_server_of_another_protocol_version_is_recognised() -> None:
    reader = asyncio.StreamReader()
    reader.feed_data(b"AMQP\x00\x00\x08\x00")
    frames = FrameReader(reader)
    assert await frames.readexactly(1) + await frames.readexactly(6) == b"AMQP\x00\x00\x08"


async def test_the_end_in_the_middle_of_a_frame_is_an_error() -> None:
    reader = asyncio.StreamReader()
    reader.feed_data(header()[:-3])
    reader.feed_eof()
    with pytest.raises(asyncio.IncompleteReadError):
        await FrameReader(reader).readexactly(1)


class Transport(asyncio.WriteTransport):
    """Remembers each write."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[bytes] = []
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.closed
        self.sent.append(bytes(data))

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


def joining_writer() -> tuple[JoiningWriter, Transport]:
    loop, transport = asyncio.get_running_loop(), Transport()
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    return JoiningWriter(asyncio.StreamWriter(transport, protocol, reader, loop)), transport


async def test_what_is_written_in_one_turn_goes_out_together_and_in_order() -> None:
    writer, transport = joining_writer()
    for word in (b"one ", b"two ", b"three"):
        writer.write(word)
    assert transport.sent == []
    await asyncio.sleep(0)
    assert transport.sent == [b"one two three"]


async def test_nothing_stays_behind_when_the_writer_drains_or_closes() -> None:
    writer, transport = joining_writer()
    writer.write(b"one")
    await writer.drain()
    writer.write(b"two")
    writer.close()
    assert transport.sent == [b"one", b"two"]
    await asyncio.sleep(0)


def large(size: int, channel: int = 1, **properties: bytes) -> bytes:
    """The header and the body of a message, in frames of 128 KiB."""
    head = bytearray(header(**properties))
    head[1:3] = channel.to_bytes(2, "big")
    head[11:19] = size.to_bytes(8, "big")
    sizes = [min(131_064, size - at) for at in range(0, size, 131_064)]
    return bytes(head) + b"".join(struct.pack(">BHI", 3, channel, it) + b"x" * it + b"\xce" for it in sizes)


async def test_of_a_body_that_is_too_large_the_beginning_comes_and_its_size() -> None:
    size = MAX_BODY_BYTES + 1
    first, body, *rest = await frames_of(
        large(size, message_id=short(b"m-1"), headers=table(b"a", b"t\x01")) + frame(8, b"")
    )
    _, _, found = pamqp.frame.unmarshal(first)
    assert isinstance(found, ContentHeader)
    assert (found.body_size, found.properties.message_id) == (KEPT, "m-1")
    assert found.properties.headers == {"a": True, CUT: size}
    assert body == frame(3, b"x" * KEPT)
    assert rest == [frame(8, b"")]


async def test_a_body_of_the_largest_size_passes_as_it_is() -> None:
    data = large(MAX_BODY_BYTES)
    assert b"".join(await frames_of(data)) == data


async def test_a_large_body_of_one_channel_does_not_cut_what_comes_on_another() -> None:
    begun = large(3_000_000)[: -(131_064 * 2)]
    cut_at = begun.rindex(struct.pack(">BHI", 3, 1, 131_064))
    other = bytearray(frame(3, b"hello"))
    other[1:3] = (2).to_bytes(2, "big")
    found = await frames_of(begun[:cut_at] + bytes(other))
    assert found[-1] == bytes(other)


async def test_a_large_body_in_small_frames_is_cut_at_the_same_place() -> None:
    data = bytearray(large(MAX_BODY_BYTES + 1))
    head = bytes(data[: data.index(b"\xce") + 1])
    pieces = [frame(3, b"%05d" % number * 20) for number in range((MAX_BODY_BYTES + 1) // 100 + 1)]
    _, *found = await frames_of(head + b"".join(pieces))
    assert b"".join(it[7:-1] for it in found) == b"".join(b"%05d" % number * 20 for number in range(11))[:KEPT]


async def test_properties_that_cannot_be_read_do_not_keep_a_body_from_being_cut() -> None:
    first, body = await frames_of(large(3_000_000, message_id=short(b"\xff")))
    _, _, found = pamqp.frame.unmarshal(first)
    assert isinstance(found, ContentHeader)
    assert found.body_size == KEPT
    assert found.properties.headers is not None
    assert found.properties.headers[CUT] == 3_000_000
    assert "codec" in str(found.properties.headers[UNREADABLE])
    assert len(body) == KEPT + 8


@pytest.mark.parametrize("mark", [CUT, UNREADABLE])
async def test_marks_that_a_publisher_wrote_are_taken_away(mark: str) -> None:
    found = await properties_of(
        header(
            content_type=short(b"a/b"),
            headers=long(short(mark.encode()) + b"S" + long(b"a lie") + short(b"mine") + b"t\x01"),
            message_id=short(b"m-1"),
            timestamp=struct.pack(">Q", 1_763_800_000),
        )
    )
    assert found.headers == {"mine": True}
    assert (found.content_type, found.message_id) == ("a/b", "m-1")
    assert found.timestamp is not None
