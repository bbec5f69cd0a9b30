"""What the clients refuse before they connect."""

from typing import Any

import pytest
from pydantic import ValidationError

from taskbell.client import AsyncClient, Client
from taskbell.contracts import CommandOutcome, MailingDue, ReminderDue, SendBatch, TaskStatus, UpdateTaskStatus

UNUSED = "amqp://guest:guest@127.0.0.1:1/"
COMMAND = UpdateTaskStatus(task_id=1, new_status=TaskStatus.DONE)


@pytest.mark.parametrize("kind", [AsyncClient, Client])
@pytest.mark.parametrize("url", ["", "rabbitmq:5672", "http://user:secret@host/", "amqp:///vhost"])
def test_what_is_no_amqp_url_is_refused_without_repeating_it(kind: type[Client | AsyncClient], url: str) -> None:
    with pytest.raises(ValueError, match="must look like amqp://") as caught:
        kind(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "ids",
    [
        {"message_id": ""},
        {"message_id": "x" * 256},
        {"message_id": "é" * 128},
        {"message_id": "a\x00b"},
        {"correlation_id": "x" * 256},
    ],
    ids=["empty", "256 characters", "256 bytes", "zero", "correlation"],
)
async def test_ids_that_amqp_cannot_carry_are_refused(ids: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must have 1 to 255 bytes"):
        await AsyncClient(UNUSED).publish(COMMAND, **ids)


async def test_what_is_no_message_is_refused() -> None:
    with pytest.raises(TypeError, match="MailingDue is not a message of Taskbell"):
        await AsyncClient(UNUSED).publish(MailingDue())


@pytest.mark.parametrize("body", [ReminderDue(), SendBatch(delivery_ids=(1,))], ids=["event", "batch"])
async def test_what_has_no_outcome_cannot_be_asked_for(body: ReminderDue | SendBatch) -> None:
    with pytest.raises(TypeError, match="has no outcome"):
        await AsyncClient(UNUSED).request(body)


def test_blocking_code_hears_of_the_same_mistakes() -> None:
    with Client(UNUSED) as client:
        with pytest.raises(ValueError, match="must have 1 to 255 bytes"):
            client.publish(COMMAND, message_id="")
        with pytest.raises(TypeError, match="has no outcome"):
            client.request(ReminderDue())


def test_statuses_may_be_given_as_words_and_unknown_ones_are_refused() -> None:
    given: Any = "done"
    assert UpdateTaskStatus(task_id=1, new_status=given) == COMMAND
    unknown: Any = "finished"
    with pytest.raises(ValidationError):
        UpdateTaskStatus(task_id=1, new_status=unknown)


def test_an_outcome_tells_whether_it_is_now_so() -> None:
    states = ("done", "unchanged", "rejected", "failed")
    assert [CommandOutcome(message_id="m", state=state).ok for state in states] == [
        True,
        True,
        False,
        False,
    ]
