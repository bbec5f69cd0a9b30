"""Messages that nobody should send: each ends with the dead letters, and its neighbours notice nothing."""

import struct
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from tests.integration.common.messaging.harness import DEAD, QUEUE, ConsumingHarness, Recorder, command
from tests.integration.common.messaging.raw import RawPublisher, long, nested, short, table
from tests.support.vhosts import Vhost
from tests.support.waiting import eventually

from taskbell.contracts import MAX_BODY_BYTES, GenerateTaskReport
from taskbell.errors import Never
from taskbell.messaging.wire.frames import KEPT

DEEP_JSON = b'{"task_id": 1, "new_status": "done", "x": ' + b"[" * 5_000 + b"]" * 5_000 + b"}"

BODIES = {
    "empty": (b"", "Invalid JSON: EOF"),
    "no JSON": (b"task 7 please", "Invalid JSON"),
    "broken JSON": (b'{"task_id": 7,', "Invalid JSON"),
    "no UTF-8": (b'{"task_id": 7, "new_status": "\xff"}', "Invalid JSON"),
    "no object": (b"[1, 2]", "Input should be an object"),
    "null": (b"null", "Input should be an object"),
    "text for a number": (b'{"task_id": "7", "new_status": "done"}', "task_id: Input should be a valid integer"),
    "a float for a number": (b'{"task_id": 7.5, "new_status": "done"}', "task_id: Input should be a valid integer"),
    "an id of 2^70": (b'{"task_id": 1180591620717411303424, "new_status": "done"}', "task_id: "),
    "an id of 0": (b'{"task_id": 0, "new_status": "done"}', "task_id: Input should be greater than or equal to 1"),
    "an unknown status": (b'{"task_id": 7, "new_status": "finished"}', "new_status: Input should be 'pending'"),
    "NUL": (b'{"task_id": 7, "new_status": "done", "requested_by": "a\\u0000"}', "requested_by: must not contain"),
    "Infinity": (b'{"task_id": Infinity, "new_status": "done"}', "task_id: Input should be a valid integer"),
    "3 MiB": (command(7, "x" * 3 * 1024 * 1024), "bytes is larger than 2097152"),
    "deep nesting": (DEEP_JSON, "Invalid JSON: recursion limit exceeded"),
    "two megabytes of zeros": (b"\0" * 2_000_000, "Invalid JSON"),
}

UNREADABLE = {
    "a timestamp in nanoseconds": ({"timestamp": struct.pack(">Q", 1_763_800_000_000_000_000)}, "out of range"),
    "an id that is no text": ({"message_id": short(b"\xff\xfe")}, "codec can't decode byte 0xff"),
    "a type that is no text": ({"type": short(b"\xc3\x28")}, "codec can't decode byte 0xc3"),
    "a time in a header": ({"headers": table(at=b"T" + struct.pack(">Q", 2**62))}, "out of range"),
    "headers nested 3,000 deep": ({"headers": table(x=nested(3000))}, "recursion"),
}

ODD = {
    "bytes": {"headers": table(x=b"S" + long(b"\xff\xfe"))},
    "a double": {"headers": table(x=b"d" + struct.pack(">d", 1e300))},
    "a decimal": {"headers": table(x=b"D" + struct.pack(">BI", 200, 2**32 - 1))},
    "a table in an array in a table": {"headers": table(x=b"F" + table(y=b"A" + long(b"F" + table(z=b"V"))))},
    "headers nested 100 deep": {"headers": table(x=nested(100))},
    "headers as large as a frame": {"headers": table(x=b"S" + long(b"x" * 130_900))},
    "5,000 headers": {"headers": long(b"".join(short(b"header-%d" % n) + b"t\x01" for n in range(5_000)))},
    "a foreign attempt": {"headers": table(**{"x-taskbell-attempt": b"S" + long(b"many")})},
    "a foreign way home": {
        "headers": table(**{"x-taskbell-exchange": b"V", "x-taskbell-routing-key": b"F" + table(a=b"V")})
    },
    "everything else": {
        "content_type": short(b"application/x-protobuf"),
        "content_encoding": short(b"gzip"),
        "delivery_mode": b"\x01",
        "priority": b"\xff",
        "correlation_id": short("größe".encode()),
        "reply_to": short(b"nowhere"),
        "expiration": short(b"3600000"),
        "message_id": short(b"x" * 255),
        "timestamp": struct.pack(">Q", 0),
        "app_id": short(b"\x01\x02"),
    },
}


@pytest_asyncio.fixture(scope="module")
async def raw(module_vhost: Vhost) -> AsyncIterator[RawPublisher]:
    async with RawPublisher(module_vhost.url) as raw:
        yield raw


async def good_one_is_handled(harness: ConsumingHarness, recorder: Recorder) -> None:
    await harness.publish(command(4711), "good")
    await eventually(lambda: 4711 in recorder.numbers)


@pytest.mark.parametrize(("body", "reason"), BODIES.values(), ids=BODIES)
async def test_a_body_that_does_not_validate(
    harness: ConsumingHarness, recorder: Recorder, raw: RawPublisher, body: bytes, reason: str
) -> None:
    await harness.consume(recorder.subscription())
    assert await raw.publish("taskbell.commands", QUEUE.encode(), body, {})

    (dead_letter,) = await harness.dead_letters()
    assert reason in dead_letter.headers["x-taskbell-reason"]
    assert dead_letter.body == (body if len(body) <= MAX_BODY_BYTES else body[:KEPT])
    assert [reason in told for _, told in recorder.told] == [True]
    await good_one_is_handled(harness, recorder)
    assert harness.state() == {"state": "ready"}


@pytest.mark.parametrize(("properties", "reason"), UNREADABLE.values(), ids=UNREADABLE)
async def test_properties_that_cannot_be_read(
    harness: ConsumingHarness, recorder: Recorder, raw: RawPublisher, properties: dict[str, bytes], reason: str
) -> None:
    await harness.consume(recorder.subscription())
    assert await raw.publish("taskbell.commands", QUEUE.encode(), command(7), properties)

    (dead_letter,) = await harness.dead_letters()
    assert dead_letter.headers["x-taskbell-reason"].startswith("properties cannot be read: ")
    assert reason in dead_letter.headers["x-taskbell-reason"]
    assert dead_letter.body == command(7)
    await good_one_is_handled(harness, recorder)
    assert recorder.numbers == [4711]
    assert harness.state() == {"state": "ready"}


@pytest.mark.parametrize("properties", ODD.values(), ids=ODD)
async def test_odd_but_readable_properties_do_not_matter_to_a_valid_body(
    harness: ConsumingHarness, recorder: Recorder, raw: RawPublisher, properties: dict[str, bytes]
) -> None:
    await harness.consume(recorder.subscription())
    assert await raw.publish("taskbell.commands", QUEUE.encode(), command(7), properties)
    await recorder.wait_for(1)
    assert recorder.numbers == [7]
    assert await harness.ready_in(DEAD) == 0


@pytest.mark.parametrize("properties", ODD.values(), ids=ODD)
@pytest.mark.parametrize("fate", ["invalid", "never", "error"])
async def test_odd_properties_do_not_keep_a_message_from_its_fate(
    harness: ConsumingHarness, recorder: Recorder, raw: RawPublisher, properties: dict[str, bytes], fate: str
) -> None:
    def fail(messages: Any) -> Exception | None:
        return {"never": Never("no"), "error": ValueError("bug")}[fate] if messages[0].body.task_id == 7 else None

    recorder.fail = fail
    await harness.consume(recorder.subscription())
    body = b"{}" if fate == "invalid" else command(7)
    assert await raw.publish("taskbell.commands", QUEUE.encode(), body, properties)

    (dead_letter,) = await harness.dead_letters(queue="taskbell.retry.10s" if fate == "error" else DEAD)
    assert dead_letter.body == body
    if "message_id" in properties:
        assert dead_letter.properties["message_id"] == "x" * 255
        assert dead_letter.properties["correlation_id"] == "größe"
    await good_one_is_handled(harness, recorder)


async def test_a_header_that_is_too_large_for_a_dead_letter_is_named_in_it(
    harness: ConsumingHarness, recorder: Recorder, raw: RawPublisher
) -> None:
    await harness.consume(recorder.subscription())
    await raw.publish(
        "taskbell.commands", QUEUE.encode(), b"{}", {"headers": table(a=b"S" + long(b"x" * 130_900), b=b"t\x01")}
    )
    (dead_letter,) = await harness.dead_letters()
    assert dead_letter.headers["x-taskbell-left-out"] == "a"
    assert dead_letter.headers["b"] is True


@pytest.mark.parametrize("waits", [False, True], ids=["comes while we consume", "waits for us"])
async def test_a_routing_key_that_is_no_text_is_a_strays_and_not_in_the_way(
    harness: ConsumingHarness, recorder: Recorder, raw: RawPublisher, waits: bool
) -> None:
    if not waits:
        await harness.consume(recorder.subscription())
    copied_to = {"headers": table(CC=b"A" + long(b"S" + long(QUEUE.encode())))}
    assert await raw.publish("taskbell.commands", b"\xff\xfe", command(7), copied_to)
    if waits:  # a queue's first message is asked for, and comes in a frame of another kind
        await harness.consume(recorder.subscription())
    (dead_letter,) = await harness.dead_letters()
    assert dead_letter.headers["x-taskbell-routing-key"] == "??"
    await good_one_is_handled(harness, recorder)
    assert recorder.numbers == [4711]


async def test_a_flood_of_poison_leaves_the_good_ones_alone(
    harness: ConsumingHarness, recorder: Recorder, raw: RawPublisher
) -> None:
    bodies = [body for name, (body, _) in BODIES.items() if len(body) < 1000]
    properties = [given for name, (given, _) in UNREADABLE.items() if "nested" not in name]
    good = []
    for number in range(1, 301):
        if number % 10 == 0:
            good.append(number)
            await raw.publish("taskbell.commands", QUEUE.encode(), command(number), {"message_id": short(b"good")})
        elif number % 10 < 8:
            await raw.publish("taskbell.commands", QUEUE.encode(), bodies[number % len(bodies)], {})
        else:
            odd = properties[number % len(properties)]
            await raw.publish("taskbell.commands", QUEUE.encode(), command(number), odd)

    await harness.consume(recorder.subscription(batch=20, prefetch=50))
    dead_letters = await harness.dead_letters(270)

    assert len(dead_letters) == 270
    assert all(dead_letter.headers["x-taskbell-reason"] for dead_letter in dead_letters)
    await eventually(lambda: sorted(recorder.numbers) == good)
    assert not any(message.envelope.redelivered for message in recorder.done)
    await harness.management.take(DEAD)


async def test_whatever_a_contract_of_ours_does_the_message_does_not_hang(
    harness: ConsumingHarness, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def parse(_: bytes) -> GenerateTaskReport:
        raise OverflowError("a bug in a validator")

    monkeypatch.setattr(GenerateTaskReport, "parse", parse)
    await harness.consume(recorder.subscription("maintenance.generate_task_report", GenerateTaskReport))
    await harness.publish(b"{}", "m-1", "maintenance.generate_task_report")
    (dead_letter,) = await harness.dead_letters()
    assert dead_letter.headers["x-taskbell-reason"] == "OverflowError: a bug in a validator"
