"""Poison messages of every kind for every queue: bodies and properties that nobody should send."""

import random
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from taskbell.contracts import CATALOGUE
from tests.integration.common.messaging.raw import long, nested, short, table

MESSAGES = {message.queue: message for message in CATALOGUE.values() if message.queue is not None}
MIB = 1024 * 1024
LARGE = frozenset({"3 MiB", "two megabytes of zeros"})
LARGE_SHARE = 250
"""One message in so many is large: enough to see them handled, too few to measure the disk."""

WHOLE = {
    "empty": b"",
    "no JSON": b"task 7 please",
    "cut off": b'{"task_id": 7,',
    "no UTF-8": b'{"task_id": 7, "to": "\xff\xfe"}',
    "an array": b"[1, 2]",
    "null": b"null",
    "a text": b'"reminder"',
    "deep nesting": b'{"x": ' + b"[" * 5_000 + b"]" * 5_000 + b"}",
    "3 MiB": b'{"x": "' + b"x" * 3 * MIB + b'"}',
    "two megabytes of zeros": b"\0" * 2_000_000,
}
"""Bodies that are wrong as a whole."""

VALUES = {
    "a text for a number": b'"seven"',
    "a float": b"7.5",
    "an id of 0": b"0",
    "a negative id": b"-7",
    "an id of 2^70": b"1180591620717411303424",
    "NaN": b"NaN",
    "Infinity": b"-Infinity",
    "true": b"true",
    "an object": b'{"id": 7}',
    "NUL in a text": b'"a\\u0000@example.org"',
    "a list beyond all limits": b"[" + b"7," * 20_000 + b"7]",
}
"""Wrong values, to be put in place of a right one."""

_DUE = b'{"user_ids": [%b], "n": 0}'
PLACES = {
    "notifier.reminder_due": _DUE,
    "notifier.overdue_due": _DUE,
    "notifier.weekly_due": _DUE,
    "notifier.report_generated": b'{"as_of": "2026-01-01T00:00:00Z", "date": %b}',
    "notifier.send_test_mail": b'{"to": %b}',
    "notifier.report_bounce": b'{"type": %b, "address": "a@example.org"}',
    "notifier.send_batch": b'{"delivery_ids": [%b]}',
    "maintenance.update_task_status": b'{"task_id": %b, "new_status": "done"}',
    "maintenance.cleanup_completed_tasks": b'{"mode": %b}',
    "maintenance.generate_task_report": b'{"date": %b}',
}
"""Bodies by queue, with the place for a wrong value."""

_OF_A_DUE = {
    "no time": b'{"occurrence": "yesterday", "timezone": "UTC"}',
    "a time without its zone": b'{"occurrence": "2026-01-01T08:00:00Z"}',
    "a zone that does not exist": b'{"timezone": "Mars/Olympus"}',
    "more users than allowed": b'{"user_ids": [' + b"1," * 10_000 + b"1]}",
}
_OF_A_COMMAND = {"a naive time": b'{"occurrence": "2026-01-01T08:00:00"}'}
OWN = {
    "notifier.reminder_due": _OF_A_DUE,
    "notifier.overdue_due": _OF_A_DUE,
    "notifier.weekly_due": _OF_A_DUE,
    "notifier.report_generated": {"a field is missing": b'{"date": "2026-01-01"}'},
    "notifier.send_test_mail": {"a field is missing": b"{}"},
    "notifier.report_bounce": {"an unknown type": b'{"type": "medium"}'},
    "notifier.send_batch": {"more rows than allowed": b'{"delivery_ids": [' + b"1," * 100 + b"1]}"},
    "maintenance.update_task_status": {
        "a field is missing": b'{"task_id": 7}',
        "an unknown status": b'{"task_id": 7, "new_status": "finished"}',
    },
    "maintenance.cleanup_completed_tasks": _OF_A_COMMAND,
    "maintenance.generate_task_report": _OF_A_COMMAND,
}
"""Bodies that are wrong in one queue only."""

VALID = {
    "notifier.reminder_due": b'{"user_ids": [], "n": %d}',
    "notifier.overdue_due": b'{"user_ids": [], "n": %d}',
    "notifier.weekly_due": b'{"user_ids": [], "n": %d}',
    "notifier.report_generated": b'{"date": "2026-01-01", "as_of": "2026-01-01T00:00:00Z", "n": %d}',
    "notifier.send_test_mail": b'{"to": "a@example.org", "n": %d}',
    "notifier.report_bounce": b'{"type": "soft", "address": "a@example.org", "n": %d}',
    "notifier.send_batch": b'{"delivery_ids": [1], "n": %d}',
    "maintenance.update_task_status": b'{"task_id": 1, "new_status": "cancelled", "n": %d}',
    "maintenance.cleanup_completed_tasks": b'{"dry_run": true, "n": %d}',
    "maintenance.generate_task_report": b'{"n": %d}',
}
"""Valid bodies with a number that no service reads, for messages whose properties are wrong."""

UNREADABLE = {
    "a timestamp in nanoseconds": {"timestamp": struct.pack(">Q", 1_763_800_000_000_000_000)},
    "an id that is not text": {"message_id": short(b"\xff\xfe")},
    "a type that is not text": {"type": short(b"\xc3\x28")},
    "a time beyond all years in a header": {"headers": table(at=b"T" + struct.pack(">Q", 2**62))},
    "headers nested 3,000 deep": {"headers": table(x=nested(3000))},
}
"""Properties that a client cannot read."""

ODD: list[Mapping[str, bytes]] = [
    {},
    {"content_type": short(b"application/x-protobuf"), "content_encoding": short(b"gzip")},
    {"content_encoding": short(b"no such thing"), "priority": b"\xff", "expiration": short(b"3600000")},
    {"headers": table(x=b"F" + table(y=b"A" + long(b"F" + table(z=b"V"))))},
    {"headers": table(**{"x-taskbell-attempt": b"S" + long(b"many"), "x-taskbell-reason": b"t\x01"})},
    {"headers": table(x=nested(100), y=b"d" + struct.pack(">d", 1e300))},
    {"reply_to": short(b"nowhere"), "correlation_id": short("größe".encode()), "timestamp": struct.pack(">Q", 0)},
]
"""Properties that can be read and mean nothing; they are sent with wrong bodies."""


@dataclass(frozen=True)
class PoisonMessage:
    """One message that a service cannot handle."""

    kind: str
    queue: str
    body: bytes
    properties: Mapping[str, bytes]
    identity: str | bytes
    """What tells its dead letter from others: its message_id, or its body if that cannot be read."""


def poison_messages(chance: random.Random, count: int) -> Iterator[PoisonMessage]:
    """Yields `count` messages at random; one in fifty has the message_id of the one before it."""
    queues = sorted(MESSAGES)
    for number in range(count):
        queue = chance.choice(queues)
        found = bodies(queue)
        kind = chance.choice(sorted({*found, *UNREADABLE} - LARGE))
        if number % LARGE_SHARE == LARGE_SHARE // 2:
            kind = chance.choice(sorted(LARGE))
        if kind in UNREADABLE:
            body = VALID[queue] % number
            yield PoisonMessage(kind, queue, body, UNREADABLE[kind], body)
            continue
        name = f"poison-{number - (number % 50 == 49)}"
        properties = chance.choice(ODD) | {"message_id": short(name.encode())}
        yield PoisonMessage(kind, queue, found[kind], properties, name)


def bodies(queue: str) -> dict[str, bytes]:
    """Every body that is wrong in that queue."""
    return WHOLE | {kind: PLACES[queue] % value for kind, value in VALUES.items()} | OWN[queue]
