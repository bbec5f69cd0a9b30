"""What becomes of a message that failed, step by step on the ladder."""

from datetime import UTC, datetime
from typing import Any

import pytest

from taskbell.errors import InvalidMessage, Never
from taskbell.messaging.consuming.delivery import Envelope
from taskbell.messaging.consuming.failures import dead, move, postponed, reason_of, retry
from taskbell.messaging.publishing.outgoing import Outgoing

QUEUE = "maintenance.update_task_status"
BODY = b'{"task_id": 7}'


def envelope(**changes: Any) -> Envelope:
    values: dict[str, Any] = {
        "queue": QUEUE,
        "exchange": "taskbell.commands",
        "routing_key": "maintenance.update_task_status",
        "message_id": "m-1",
        "anonymous": False,
        "redelivered": False,
        "attempt": 0,
        "correlation_id": "c-1",
        "reply_to": "amq.gen-x",
        "type": "t",
        "content_type": "application/json",
        "headers": {"traceparent": "00-ab", "x-taskbell-unreadable": "?"},
        "timestamp": datetime(2026, 11, 20, tzinfo=UTC),
    }
    return Envelope(**(values | changes))


def kept(message: Outgoing) -> tuple[object, ...]:
    return (
        message.body,
        message.message_id,
        message.correlation_id,
        message.reply_to,
        message.type,
        message.content_type,
        message.timestamp,
    )


KEPT = (BODY, "m-1", "c-1", "amq.gen-x", "t", "application/json", datetime(2026, 11, 20, tzinfo=UTC))


@pytest.mark.parametrize(
    ("attempt", "exchange"),
    [(0, "taskbell.retry.10s"), (1, "taskbell.retry.1m"), (2, "taskbell.retry.10m")],
)
def test_each_try_takes_the_next_rung_and_finds_its_way_home(attempt: int, exchange: str) -> None:
    message = retry(envelope(attempt=attempt), BODY)
    assert message is not None
    assert (message.exchange, message.routing_key) == (exchange, QUEUE)
    assert (message.mandatory, message.persistent) == (True, True)
    assert message.headers == {
        "traceparent": "00-ab",
        "x-taskbell-attempt": attempt + 1,
        "x-taskbell-exchange": "taskbell.commands",
        "x-taskbell-routing-key": "maintenance.update_task_status",
    }
    assert kept(message) == KEPT


@pytest.mark.parametrize("attempt", [3, 4, 1000])
def test_above_the_last_rung_there_is_nothing(attempt: int) -> None:
    assert retry(envelope(attempt=attempt), BODY) is None


def test_a_message_that_came_without_an_id_stays_known_as_such() -> None:
    message = retry(envelope(anonymous=True), BODY)
    assert message is not None
    assert message.headers["x-taskbell-anonymous"] is True


def test_a_dead_letter_says_where_it_came_from_and_why() -> None:
    message = dead(envelope(attempt=3), BODY, "no such task")
    assert (message.exchange, message.routing_key) == ("taskbell.dead", "maintenance.dead")
    assert (message.mandatory, message.persistent) == (True, True)
    assert message.headers == {
        "traceparent": "00-ab",
        "x-taskbell-reason": "no such task",
        "x-taskbell-queue": QUEUE,
        "x-taskbell-exchange": "taskbell.commands",
        "x-taskbell-routing-key": "maintenance.update_task_status",
        "x-taskbell-attempt": 3,
    }
    assert kept(message) == KEPT


def test_the_notifiers_dead_letters_are_its_own() -> None:
    assert dead(envelope(queue="notifier.weekly_due"), BODY, "x").routing_key == "notifier.dead"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Never("no such task"), "no such task"),
        (InvalidMessage("task_id: Field required;\nnew_status: Field required"),
         "task_id: Field required; new_status: Field required"),
        (ValueError("bad"), "ValueError: bad"),
        (ValueError(), "ValueError"),
        (ValueError("duplicate key\nDETAIL:  Key (address)=(ann@example.org) exists"), "ValueError: duplicate key"),
        (ValueError("a\x00b \t c"), "ValueError: ab c"),
        (ValueError("lone \udc80"), "ValueError: lone ?"),
        (InvalidMessage("counts.\x1b[31m\u202e: bad"), "counts. [31m : bad"),
        (Never("x" * 2000), "x" * 1000),
    ],
)  # fmt: skip
def test_a_reason_is_one_line_without_what_must_not_be_told(error: Exception, reason: str) -> None:
    assert reason_of(error) == reason


def test_one_that_may_succeed_later_is_retried_and_one_that_never_can_is_dead() -> None:
    again = move(envelope(), BODY, ValueError("bad luck"))
    assert (again.to, again.reason) == ("retried", "ValueError: bad luck")
    assert again.message == retry(envelope(), BODY)
    never = move(envelope(), BODY, Never("no such task"))
    assert (never.to, never.reason) == ("dead", "no such task")
    assert never.message == dead(envelope(), BODY, "no such task")


def test_after_the_last_rung_the_reason_tells_how_often_it_was_tried() -> None:
    last = move(envelope(attempt=3), BODY, ValueError("bad luck"))
    assert (last.to, last.reason) == ("dead", "failed 4 times; at last: ValueError: bad luck")
    assert last.message.headers["x-taskbell-reason"] == last.reason


def test_one_that_is_postponed_has_used_up_no_try() -> None:
    message = postponed(envelope(attempt=2), BODY)
    assert (message.exchange, message.routing_key) == ("taskbell.retry.10s", QUEUE)
    assert message.headers["x-taskbell-attempt"] == 2
    assert kept(message) == KEPT
