"""A queue's messages come from their catalogue exchange under their own key, or by the default exchange."""

from collections.abc import Mapping
from typing import Any

import pytest
from tests.integration.common.messaging.harness import DEAD, QUEUE, ConsumingHarness, Recorder, command
from tests.support.waiting import eventually

from taskbell.contracts import CATALOGUE
from taskbell.messaging.publishing.outgoing import Outgoing

OTHER = "maintenance.generate_task_report"
FORGED = {
    "x-taskbell-attempt": 3,
    "x-taskbell-anonymous": True,
    "x-taskbell-cut": 7_000_000,
    "x-taskbell-exchange": "somewhere",
    "x-taskbell-left-out": "everything",
    "x-taskbell-queue": "notifier.send_batch",
    "x-taskbell-reason": "a lie",
    "x-taskbell-routing-key": "notifier.send_batch\n\x1b[31m",
    "x-taskbell-size": 7_000_000,
    "x-taskbell-unreadable": "a lie",
}
CONSUMED = [message for message in CATALOGUE.values() if message.queue is not None]


async def good_one_is_handled(harness: ConsumingHarness, recorder: Recorder) -> None:
    await harness.publish(command(4711), "good")
    await eventually(lambda: 4711 in recorder.numbers)


@pytest.mark.parametrize("header", ["CC", "BCC"])
@pytest.mark.parametrize("waits", [False, True], ids=["comes while we consume", "waits for us"])
async def test_a_copy_that_another_messages_publisher_asked_for_is_dead_lettered(
    harness: ConsumingHarness, recorder: Recorder, header: str, waits: bool
) -> None:
    if not waits:
        await harness.consume(recorder.subscription())
    await harness.management.call("DELETE", f"/queues/{{vhost}}/{OTHER}/contents")
    await harness.publish(command(7), "m-7", queue=OTHER, headers={header: [QUEUE]}, reply_to="reply.nobody")
    if waits:
        await harness.consume(recorder.subscription())

    (dead_letter,) = await harness.dead_letters()
    assert dead_letter.headers == {
        "x-taskbell-reason": f"came from exchange 'taskbell.commands' under '{OTHER}', but {QUEUE} takes only what "
        f"comes from taskbell.commands under {QUEUE}",
        "x-taskbell-queue": QUEUE,
        "x-taskbell-exchange": "taskbell.commands",
        "x-taskbell-routing-key": OTHER,
        "x-taskbell-attempt": 0,
    }
    await good_one_is_handled(harness, recorder)
    assert recorder.numbers == [4711]
    assert recorder.told == [], "the outcome under that message_id belongs to the other command"
    await harness.management.call("DELETE", f"/queues/{{vhost}}/{OTHER}/contents")


@pytest.mark.parametrize("message", CONSUMED, ids=[message.routing_key for message in CONSUMED])
async def test_no_queue_takes_what_was_published_under_another_key(
    harness: ConsumingHarness, recorder: Recorder, message: Any
) -> None:
    queue, contract = message.queue, message.contract
    key = f"test.{message.routing_key}"
    await harness.management.call("DELETE", f"/queues/{{vhost}}/{queue}/contents")
    dead = f"{queue.partition('.')[0]}.dead"
    await harness.management.call("DELETE", f"/queues/{{vhost}}/{dead}/contents")
    await harness.management.call("POST", f"/bindings/{{vhost}}/e/taskbell.events/q/{queue}", {"routing_key": key})
    await harness.consume(recorder.subscription(queue, contract))
    body = b'{"task_id": 1, "new_status": "done", "user_ids": [1], "period": "x"}'
    await harness.publisher.publish(Outgoing("taskbell.events", key, body, "m-7", mandatory=True))
    (dead_letter,) = await harness.dead_letters(queue=dead)
    assert dead_letter.headers["x-taskbell-reason"].startswith(f"came from exchange 'taskbell.events' under '{key}'")
    assert recorder.sets == []
    assert recorder.told == []


async def test_headers_of_ours_in_a_new_message_are_its_publishers_and_do_not_count(
    harness: ConsumingHarness, recorder: Recorder
) -> None:
    await harness.consume(recorder.subscription())
    await harness.publish(command(7), "m-7", headers={**FORGED, "x-mine": 1})
    await recorder.wait_for(1)
    (handled,) = recorder.done
    assert (handled.envelope.exchange, handled.envelope.routing_key) == ("taskbell.commands", QUEUE)
    assert (handled.envelope.attempt, handled.envelope.anonymous, handled.envelope.size) == (0, False, None)
    assert handled.envelope.headers == {"x-mine": 1}
    assert await harness.ready_in(DEAD) == 0


async def test_a_dead_letter_repeats_none_of_the_forged_headers(harness: ConsumingHarness, recorder: Recorder) -> None:
    await harness.consume(recorder.subscription())
    await harness.publish(b"{}", "m-7", headers={**FORGED, "x-mine": 1})
    (dead_letter,) = await harness.dead_letters()
    assert dead_letter.headers == {
        "x-mine": 1,
        "x-taskbell-reason": "task_id: Field required; new_status: Field required",
        "x-taskbell-queue": QUEUE,
        "x-taskbell-exchange": "taskbell.commands",
        "x-taskbell-routing-key": QUEUE,
        "x-taskbell-attempt": 0,
    }


async def test_a_message_that_comes_back_from_a_retry_queue_counts_its_tries(
    harness: ConsumingHarness, recorder: Recorder
) -> None:
    """Each rung, by the way that RabbitMQ takes: dead-lettered to the default exchange."""
    await harness.consume(recorder.subscription())
    headers = {"x-taskbell-exchange": "taskbell.commands", "x-taskbell-routing-key": QUEUE}
    for attempt, rung in enumerate(("taskbell.retry.10s", "taskbell.retry.1m", "taskbell.retry.10m"), start=1):
        await harness.management.publish(
            rung,
            QUEUE,
            command(attempt),
            properties={
                "expiration": "20",
                "message_id": f"m-{attempt}",
                "headers": headers | {"x-taskbell-attempt": attempt},
            },
        )
        await recorder.wait_for(attempt)
    assert [message.envelope.attempt for message in recorder.done] == [1, 2, 3]
    assert {message.envelope.routing_key for message in recorder.done} == {QUEUE}
    assert {message.envelope.exchange for message in recorder.done} == {"taskbell.commands"}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {
            "x-taskbell-reason": "failed 4 times; at last: a bug",
            "x-taskbell-queue": QUEUE,
            "x-taskbell-exchange": "taskbell.commands",
            "x-taskbell-routing-key": QUEUE,
            "x-taskbell-attempt": 3,
        },
    ],
    ids=["that the broker dead-lettered", "of ours"],
)
async def test_a_dead_letter_that_an_operator_moves_back_to_its_queue_is_taken(
    harness: ConsumingHarness, recorder: Recorder, headers: Mapping[str, Any]
) -> None:
    await harness.consume(recorder.subscription())
    await harness.publisher.publish(Outgoing("", QUEUE, command(7), "m-7", headers=headers, mandatory=True))
    await recorder.wait_for(1)
    assert recorder.done[0].envelope.attempt == headers.get("x-taskbell-attempt", 0)


async def test_a_stray_that_an_operator_moves_back_is_still_one(harness: ConsumingHarness, recorder: Recorder) -> None:
    await harness.consume(recorder.subscription())
    headers = {
        "x-taskbell-reason": "came from somewhere",
        "x-taskbell-queue": QUEUE,
        "x-taskbell-exchange": "taskbell.commands",
        "x-taskbell-routing-key": OTHER,
        "x-taskbell-attempt": 0,
    }
    await harness.publisher.publish(Outgoing("", QUEUE, command(7), "m-7", headers=headers, mandatory=True))
    (dead_letter,) = await harness.dead_letters()
    assert dead_letter.headers["x-taskbell-routing-key"] == OTHER
    assert recorder.sets == []


async def test_a_message_to_another_queues_name_is_not_a_retry(harness: ConsumingHarness, recorder: Recorder) -> None:
    """The default exchange, but with a copy: its own key names another queue."""
    await harness.consume(recorder.subscription())
    await harness.management.call("DELETE", f"/queues/{{vhost}}/{OTHER}/contents")
    await harness.publisher.publish(
        Outgoing("", OTHER, command(7), "m-7", headers={"CC": [QUEUE], "x-taskbell-attempt": 1}, mandatory=True)
    )
    (dead_letter,) = await harness.dead_letters()
    assert dead_letter.headers["x-taskbell-reason"].startswith(f"came from exchange '' under '{OTHER}'")
    assert dead_letter.headers["x-taskbell-attempt"] == 0
    await harness.management.call("DELETE", f"/queues/{{vhost}}/{OTHER}/contents")
