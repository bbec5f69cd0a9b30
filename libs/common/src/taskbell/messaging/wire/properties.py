"""Headers: the names of those that Taskbell writes, and how those that anybody may have sent are read and passed on."""

import struct
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from pamqp import encode

REASON = "x-taskbell-reason"
QUEUE = "x-taskbell-queue"
EXCHANGE = "x-taskbell-exchange"
ROUTING_KEY = "x-taskbell-routing-key"
ATTEMPT = "x-taskbell-attempt"
ANONYMOUS = "x-taskbell-anonymous"
"""Set on a retried message that came without a message_id: the one that it has now is ours."""
SIZE = "x-taskbell-size"
"""Set on a dead letter that holds only the first bytes of its body; says how many the body had."""
UNREADABLE = "x-taskbell-unreadable"
"""Set while reading, instead of properties that could not be decoded; says why. Senders of it are not believed."""
CUT = "x-taskbell-cut"
"""Set while reading, if only the first bytes of a body were kept; says how many it had. Senders are not believed."""
MARKS = frozenset((UNREADABLE, CUT))
"""What reading a frame adds to its headers; it is not part of the message."""
LEFT_OUT = "x-taskbell-left-out"
"""Names of headers that a retried or dead message had to leave behind: too large, or of a type that cannot be sent."""
TRACEPARENT = "traceparent"

_OURS = "x-taskbell-"
_BROKERS = ("x-death", "x-first-death-", "x-last-death-", "x-delivery-count", "x-acquired-count", "x-opt-")
# RabbitMQ also sends a message to the keys in these, and its publisher asked for that once only.
_ROUTING = ("CC", "BCC")

CARRIED = 32 * 1024
"""Bytes of foreign headers that a retried or dead message takes along: with ours they must fit into one frame."""

DEPTH = 8
"""Levels of nested headers that it takes along."""


def own_headers(headers: Mapping[str, Any]) -> dict[str, Any]:
    """Headers without those that brokers add when a message dies or returns, and without those that they route by."""
    return {
        name: value
        for name, value in headers.items()
        if not name.startswith(_BROKERS) and name not in _ROUTING and name not in MARKS
    }


def without_ours(headers: Mapping[str, Any]) -> dict[str, Any]:
    """Headers without those that Taskbell writes: in a message that came from outside its publisher wrote them."""
    return {name: value for name, value in headers.items() if not name.startswith(_OURS)}


def cut_of(headers: Mapping[str, Any] | None, name: str) -> int | None:
    """The number of bytes in that header, SIZE or CUT; None if it is missing or nonsense."""
    value = None if headers is None else headers.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def carried(headers: Mapping[str, Any]) -> dict[str, Any]:
    """Headers as they can be sent once more, and in LEFT_OUT the names of those that cannot."""
    taken: dict[str, Any] = {}
    left_out = []
    room = CARRIED
    for name, value in headers.items():
        if name in MARKS:
            continue
        sendable = _sendable(value, DEPTH)
        try:
            size = len(encode.field_table({name: sendable}))
        except (TypeError, ValueError, OverflowError, struct.error):
            size = CARRIED + 1
        if size <= room:
            taken[name] = sendable
            room -= size
        else:
            left_out.append(name)
    return taken | ({LEFT_OUT: ", ".join(left_out)[:500]} if left_out else {})


def _sendable(value: Any, depth: int) -> Any:
    """The value as pamqp can encode it without loss, or as text."""
    if isinstance(value, dict) and depth:
        return {str(name): _sendable(item, depth - 1) for name, item in value.items()}
    if isinstance(value, list) and depth:
        return [_sendable(item, depth - 1) for item in value]
    if isinstance(value, bytes):
        return bytearray(value)
    if isinstance(value, float):
        # pamqp writes floats in single precision only.
        return value if _fits_single(value) else repr(value)
    if isinstance(value, Decimal):
        return str(value)
    if value is None or isinstance(value, (str, bool, int, bytearray, datetime)):
        return value
    return f"({type(value).__name__})"


def _fits_single(value: float) -> bool:
    try:
        return bool(struct.unpack(">f", struct.pack(">f", value))[0] == value)
    except OverflowError:
        return False


def attempt_of(headers: Mapping[str, Any]) -> int:
    """How often this message was tried before; 0 if the header is missing or nonsense."""
    value = headers.get(ATTEMPT, 0)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 1000 else 0


def text_of(value: object, limit: int = 255) -> str | None:
    """A property as text that PostgreSQL and AMQP can hold, or None if there is none.

    Args:
        limit: bytes.
    """
    if isinstance(value, str) and value.isascii() and "\x00" not in value:
        return value[:limit] or None
    if isinstance(value, (bytes, bytearray)):
        value = value.decode("utf-8", "replace")
    if not isinstance(value, str):
        return None if value is None or isinstance(value, (dict, list)) else str(value)[:limit]
    cleaned = value.replace("\x00", "").encode("utf-8", "replace")[:limit]
    return cleaned.decode("utf-8", "ignore") or None
