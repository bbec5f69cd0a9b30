"""Bodies that do not validate, and the reason that their dead letters carry."""

import json
from typing import Any

import pytest

from taskbell.contracts import (
    MAX_BODY_BYTES,
    CleanupCompletedTasks,
    Contract,
    GenerateTaskReport,
    ReminderDue,
    SendBatch,
    SendTestMail,
    UpdateTaskStatus,
)
from taskbell.errors import InvalidMessage


def update(**fields: Any) -> bytes:
    return json.dumps({"task_id": 1, "new_status": "done"} | fields).encode()


BAD: dict[str, tuple[type[Contract], bytes, str]] = {
    "empty": (UpdateTaskStatus, b"", "EOF"),
    "broken JSON": (UpdateTaskStatus, b'{"task_id": 1, "new_status": "done"', "EOF"),
    "two documents": (UpdateTaskStatus, update() + b" {}", "trailing"),
    "no UTF-8": (UpdateTaskStatus, b'{"task_id": 1, "new_status": "d\xffne"}', ""),
    "a list": (UpdateTaskStatus, b"[]", "object"),
    "null": (UpdateTaskStatus, b"null", "object"),
    "deep nesting": (UpdateTaskStatus, b"[" * 100_000, "recursion"),
    "too large": (UpdateTaskStatus, b" " * (MAX_BODY_BYTES + 1), "larger than 2097152"),
    "a field is missing": (UpdateTaskStatus, b'{"task_id": 1}', "new_status: Field required"),
    "text for a number": (UpdateTaskStatus, update(task_id="1"), "task_id: "),
    "a fraction for a number": (UpdateTaskStatus, update(task_id=1.5), "task_id: "),
    "true for a number": (UpdateTaskStatus, update(task_id=True), "task_id: "),
    "an id of 0": (UpdateTaskStatus, update(task_id=0), "task_id: "),
    "an id of 2^63": (UpdateTaskStatus, update(task_id=2**63), "task_id: "),
    "an id of 2^70": (UpdateTaskStatus, update(task_id=2**70), "task_id: "),
    "null for a number": (UpdateTaskStatus, update(task_id=None), "task_id: "),
    "an unknown status": (UpdateTaskStatus, update(new_status="finished"), "new_status: "),
    "a status in capitals": (UpdateTaskStatus, update(new_status="DONE"), "new_status: "),
    "U+0000": (UpdateTaskStatus, update(requested_by="a\x00b"), "requested_by: must not contain"),
    "a long text": (UpdateTaskStatus, update(requested_by="x" * 1001), "requested_by: "),
    "an occurrence without a zone": (
        ReminderDue,
        b'{"occurrence": "2026-11-20T07:00:00Z"}',
        "occurrence needs timezone",
    ),
    "an occurrence without an offset": (
        ReminderDue,
        b'{"occurrence": "2026-11-20T07:00:00", "timezone": "UTC"}',
        "occurrence: ",
    ),
    "an occurrence as a number": (ReminderDue, b'{"occurrence": 1790000000, "timezone": "UTC"}', "occurrence: "),
    "an occurrence before 1970": (
        ReminderDue,
        b'{"occurrence": "1969-12-31T23:59:59Z", "timezone": "UTC"}',
        "occurrence: must lie between",
    ),
    "an unknown zone": (ReminderDue, b'{"timezone": "Foo/Bar"}', "timezone: 'Foo/Bar' is not an IANA time zone"),
    "no zone of ours": (ReminderDue, b'{"timezone": "localtime"}', "timezone: "),
    "an empty zone": (ReminderDue, b'{"timezone": ""}', "timezone: "),
    "one user for a list": (ReminderDue, b'{"user_ids": 1}', "user_ids: "),
    "10,001 users": (ReminderDue, json.dumps({"user_ids": list(range(1, 10_002))}).encode(), "user_ids: "),
    "a word for a flag": (ReminderDue, b'{"force": "yes"}', "force: "),
    "a mode that there is not": (CleanupCompletedTasks, b'{"mode": "shred"}', "mode: "),
    "days below zero": (CleanupCompletedTasks, b'{"older_than_days": -1}', "older_than_days: "),
    "a date that there is not": (GenerateTaskReport, b'{"date": "2026-02-29"}', "date: "),
    "no address": (SendTestMail, b'{"to": "nobody"}', "to: "),
    "two addresses": (SendTestMail, b'{"to": "a@example.org b@example.org"}', "to: "),
    "an injected header": (SendTestMail, b'{"to": "a@example.org\\r\\nBcc: b@example.org"}', "to: "),
    "no deliveries": (SendBatch, b'{"delivery_ids": []}', "delivery_ids: "),
    "101 deliveries": (SendBatch, json.dumps({"delivery_ids": list(range(1, 102))}).encode(), "delivery_ids: "),
}


@pytest.mark.parametrize("name", BAD)
def test_it_is_refused_with_its_reason(name: str) -> None:
    contract, body, reason = BAD[name]
    with pytest.raises(InvalidMessage) as caught:
        contract.parse(body)
    assert reason in str(caught.value)
    assert len(str(caught.value)) <= 1000
    assert "\n" not in str(caught.value)


def test_every_mistake_is_named() -> None:
    with pytest.raises(InvalidMessage, match=r"^task_id: .*; new_status: .*; requested_by: "):
        UpdateTaskStatus.parse(b'{"task_id": "x", "new_status": "y", "requested_by": 5}')


def test_a_reason_does_not_repeat_what_was_sent() -> None:
    with pytest.raises(InvalidMessage) as caught:
        UpdateTaskStatus.parse(update(task_id="hunter2"))
    assert "hunter2" not in str(caught.value)
