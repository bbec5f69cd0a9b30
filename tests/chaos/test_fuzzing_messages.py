"""Whatever anybody publishes: it is understood, or refused with a reason that a header and a log line can hold.

Here is looked for a body, or properties, on which our own code fails in any other way: what is refused so goes to the
dead letters, as tests with a real broker show.
"""

import json
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from aiormq.abc import DeliveredMessage
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from taskbell.contracts import CATALOGUE
from taskbell.errors import InvalidMessage
from taskbell.messaging.consuming.delivery import Envelope, envelope_of
from taskbell.messaging.consuming.failures import REASON_LIMIT, dead, reason_of, retry
from taskbell.messaging.publishing import outgoing
from taskbell.messaging.wire import frames
from tests.chaos.support.fuzzing import fuzz
from tests.chaos.support.plan import Plan

SAMPLES = Path(__file__).parents[1] / "contract" / "samples"
QUEUE = "maintenance.update_task_status"
FRAME = 128 * 1024
"""Bytes of a frame, which properties must fit into."""

HOSTILE: tuple[Any, ...] = (
    *(0, -1, 2**31, 2**63 - 1, 2**63, 2**64, 10**400, 0.1, -0.0, 1e308, float("nan"), float("inf"), True, None),
    *(
        "",
        " ",
        "\x00",
        "UTC\x00",
        "a\x00b",
        "\ud800",
        "\u202e",
        "\x1b[31m",
        "\u2028",
        "1" * 2_000,
        "ü" * 1_001,
        "🙂" * 400,
    ),
    *("2026-11-20T07:00:00Z", "2026-11-20T07:00:00", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59-23:59", "today"),
    *("+999999999-01-01T00:00:00Z", "2026-02-30", "2026-11-20", "-0001-01-01", "1700000000", 1700000000, 1e30),
    *("Europe/Berlin", "localtime", "Factory", "../../etc/passwd", "/etc/passwd", "Europe", "posixrules", "UTC/", "."),
    *(
        "a@b",
        "a@b\r\nBcc: c@d",
        "done",
        "DONE",
        "delete",
        [],
        {},
        [[]],
        {"": None},
        [1] * 101,
        [1] * 10_001,
        [0],
        ["1"],
    ),
)
scalars = st.sampled_from(HOSTILE) | st.integers() | st.floats() | st.text(max_size=40) | st.booleans() | st.none()
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4)
)


@st.composite
def changed(draw: st.DrawFn, samples: tuple[dict[str, Any], ...], fields: tuple[str, ...]) -> bytes:
    """A body that was good once: with fields left out, exchanged and added, and bytes that fell over on the way."""
    body = dict(draw(st.sampled_from(samples)))
    for _ in range(draw(st.integers(1, 3))):
        name = draw(st.sampled_from(fields) | st.sampled_from(fields) | st.text(max_size=9))
        if draw(st.integers(0, 4)):
            body[name] = draw(st.sampled_from(HOSTILE) | values)
        else:
            body.pop(name, None)
    raw = bytearray(json.dumps(body, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass"))
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        at = draw(st.integers(0, len(raw) - 1))
        raw[at : at + draw(st.integers(0, 3))] = draw(
            st.binary(max_size=3) | st.sampled_from([b"\x00", b"[" * 300, b"{"])
        )
        raw = raw or bytearray(b"{")
    return bytes(raw)


def envelope(**changes: Any) -> Envelope:
    fields: dict[str, Any] = dict.fromkeys(Envelope.__slots__)
    named = {"queue": QUEUE, "exchange": "taskbell.commands", "routing_key": QUEUE, "message_id": "m", "headers": {}}
    return Envelope(**(fields | named | {"anonymous": False, "redelivered": False, "attempt": 0} | changes))


def fits(message: outgoing.Outgoing) -> None:
    """Its properties can be sent: in one frame."""
    header = ContentHeader(body_size=len(message.body), properties=outgoing._properties(message))
    assert len(header.marshal()) < FRAME


@pytest.mark.parametrize("key", CATALOGUE)
def test_any_body_is_understood_or_refused_with_a_reason(key: str, plan: Plan, seed: int) -> None:
    contract = CATALOGUE[key].contract
    samples = tuple(json.loads(path.read_bytes()) for path in sorted((SAMPLES / key).glob("*.json")))

    def attack(raw: bytes) -> None:
        try:
            body = contract.parse(raw)
        except InvalidMessage as error:
            reason = reason_of(error)
            assert 0 < len(reason) <= REASON_LIMIT
            assert reason.isprintable(), ascii(reason)
            fits(dead(envelope(), raw, reason))
        else:
            written = body.to_bytes()
            assert contract.parse(written) == body
            assert "\\u0000" not in json.dumps(json.loads(written)), "PostgreSQL cannot store it"

    any_json = values.map(lambda value: json.dumps(value).encode())
    bodies = changed(samples, tuple(contract.model_fields))
    raw = bodies | bodies | any_json | st.binary(max_size=200)
    fuzz(attack, plan, seed, quick=40, full=400, raw=raw)


def test_any_properties_are_read_and_carried_on(plan: Plan, seed: int) -> None:
    """From the bytes of the frame on: flags that promise anything, and bytes that keep none of it."""

    def attack(flags: int, rest: bytes, key: str, redelivered: bool) -> None:
        payload = b"\x00\x3c\x00\x00" + (7).to_bytes(8, "big") + flags.to_bytes(2, "big") + rest + b"\xce"
        head = frames._HEAD.pack(frames._HEADER, 1, len(payload) - 1)
        frame = head + payload if frames._is_plain(payload) else frames._readable(1, head, payload)
        header = ContentHeader()
        header.unmarshal(frame[frames._HEAD.size : -1])
        deliver = Basic.Deliver("tag", 1, redelivered, "taskbell.commands", key)
        message = DeliveredMessage(delivery=deliver, header=header, body=b"{}", channel=None)  # type: ignore[arg-type]
        read = envelope_of(QUEUE, message)
        assert read.message_id
        fits(dead(read, b"{}", "why"))
        if (rung := retry(read, b"{}")) is not None:
            fits(rung)

    short = st.text(max_size=20).map(lambda text: text.encode("utf-8", "surrogatepass")) | st.binary(max_size=20)
    string = short.map(lambda data: bytes([len(data)]) + data if len(data) < 256 else b"\x00")
    table = st.binary(max_size=60).map(lambda data: len(data).to_bytes(4, "big") + data)
    rest = st.lists(string | table | st.binary(max_size=9), max_size=8).map(b"".join)
    fuzz(
        attack, plan, seed, quick=200, full=3_000,
        flags=st.integers(0, 2**16 - 1), rest=rest, key=st.text(max_size=60), redelivered=st.booleans(),
    )  # fmt: skip
