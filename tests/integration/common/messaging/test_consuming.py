"""Messages on their way through a handler: handled, retried, dead-lettered; alone or in sets."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from tests.integration.common.messaging.harness import DEAD, QUEUE, ConsumingHarness, Recorder, command
from tests.support.waiting import eventually

from taskbell.contracts import GenerateTaskReport
from taskbell.errors import Never, Retry
from taskbell.messaging.consuming.delivery import Received
from taskbell.messaging.publishing.outgoing import Outgoing


def fails_with(error: Exception, *numbers: int) -> Any:
    """A handler's failure on sets that hold these task ids; on all where none are given."""

    def fail(messages: Sequence[Received[Any]]) -> Exception | None:
        concerned = not numbers or any(message.body.task_id in numbers for message in messages)
        return error if concerned else None

    return fail


async def test_a_valid_message_is_handled_once_and_gone(harness: ConsumingHarness, recorder: Recorder) -> None:
    await harness.consume(recorder.subscription())
    await harness.publish(
        command(7), "m-7", correlation_id="c-1", reply_to="reply.x", type="t", headers={"traceparent": "00-ab"}
    )
    await recorder.wait_for(1)
    await harness.stop()

    (message,) = recorder.done
    envelope = message.envelope
    assert (message.body.task_id, message.body.new_status) == (7, "done")
    assert (envelope.message_id, envelope.anonymous) == ("m-7", False)
    assert (envelope.redelivered, envelope.attempt, envelope.again) == (False, 0, False)
    assert (envelope.queue, envelope.exchange, envelope.routing_key) == (QUEUE, "taskbell.commands", QUEUE)
    assert (envelope.correlation_id, envelope.reply_to, envelope.type) == ("c-1", "reply.x", "t")
    assert envelope.headers == {"traceparent": "00-ab"}
    assert await harness.ready_in(QUEUE) == 0
    assert await harness.ready_in(DEAD) == 0


async def test_a_message_published_by_hand_needs_no_property_at_all(
    harness: ConsumingHarness, recorder: Recorder
) -> None:
    await harness.consume(recorder.subscription())
    for _ in range(2):
        await harness.management.publish("taskbell.commands", QUEUE, command(7))
    await recorder.wait_for(2)

    first, second = (message.envelope for message in recorder.done)
    assert (first.anonymous, second.anonymous) == (True, True)
    assert first.message_id != second.message_id
    assert len(first.message_id) == 36


async def test_what_does_not_validate_is_dead_lettered_with_every_mistake(
    harness: ConsumingHarness, recorder: Recorder
) -> None:
    await harness.consume(recorder.subscription())
    body = b'{"task_id": "7", "new_status": "finished"}'
    await harness.publish(body, "m-1", correlation_id="c-1", reply_to="reply.x", headers={"x-mine": 1})

    (dead_letter,) = await harness.dead_letters()
    reason = (
        "task_id: Input should be a valid integer; "
        "new_status: Input should be 'pending', 'in_progress', 'done' or 'cancelled'"
    )
    assert dead_letter.body == body
    assert dead_letter.exchange == "taskbell.dead"
    assert dead_letter.headers == {
        "x-mine": 1,
        "x-taskbell-reason": reason,
        "x-taskbell-queue": QUEUE,
        "x-taskbell-exchange": "taskbell.commands",
        "x-taskbell-routing-key": QUEUE,
        "x-taskbell-attempt": 0,
    }
    assert dead_letter.properties["message_id"] == "m-1"
    assert dead_letter.properties["correlation_id"] == "c-1"
    assert dead_letter.properties["reply_to"] == "reply.x"
    assert dead_letter.properties["delivery_mode"] == 2
    ((envelope, told),) = recorder.told
    assert (envelope.message_id, told) == ("m-1", reason)
    assert recorder.sets == []


async def test_never_means_the_dead_letters_at_once(harness: ConsumingHarness, recorder: Recorder) -> None:
    recorder.fail = fails_with(Never("there is no such mailing"))
    await harness.consume(recorder.subscription())
    await harness.publish(command(7), "m-7")

    (dead_letter,) = await harness.dead_letters()
    assert dead_letter.headers["x-taskbell-reason"] == "there is no such mailing"
    assert dead_letter.headers["x-taskbell-attempt"] == 0
    assert [(envelope.message_id, reason) for envelope, reason in recorder.told] == [
        ("m-7", "there is no such mailing")
    ]
    assert len(recorder.sets) == 1


@pytest.mark.parametrize(
    ("attempt", "queue"),
    [(0, "taskbell.retry.10s"), (1, "taskbell.retry.1m"), (2, "taskbell.retry.10m")],
)
@pytest.mark.parametrize("error", [ValueError("a bug"), Retry("not now")])
async def test_any_other_error_takes_the_ladder(
    harness: ConsumingHarness, recorder: Recorder, attempt: int, queue: str, error: Exception
) -> None:
    recorder.fail = fails_with(error)
    await harness.consume(recorder.subscription())
    await harness.publish_as_retry(command(7), "m-7", attempt, correlation_id="c-1")

    (waiting,) = await harness.dead_letters(queue=queue)
    assert waiting.body == command(7)
    assert waiting.routing_key == QUEUE
    assert waiting.headers == {
        "x-taskbell-attempt": attempt + 1,
        "x-taskbell-exchange": "taskbell.commands",
        "x-taskbell-routing-key": QUEUE,
    }
    assert (waiting.properties["message_id"], waiting.properties["correlation_id"]) == ("m-7", "c-1")
    assert recorder.told == []
    assert await harness.ready_in(DEAD) == 0


async def test_after_the_ladder_it_is_dead_with_its_last_reason(harness: ConsumingHarness, recorder: Recorder) -> None:
    recorder.fail = fails_with(ValueError("still a bug"))
    await harness.consume(recorder.subscription())
    await harness.publish_as_retry(command(7), "m-7", 3)

    (dead_letter,) = await harness.dead_letters()
    assert dead_letter.headers["x-taskbell-reason"] == "failed 4 times; at last: ValueError: still a bug"
    assert dead_letter.headers["x-taskbell-attempt"] == 3
    assert [reason for _, reason in recorder.told] == [dead_letter.headers["x-taskbell-reason"]]


async def test_from_the_ladder_it_returns_to_its_own_queue_and_knows_where_it_came_from(
    harness: ConsumingHarness, recorder: Recorder
) -> None:
    await harness.consume(recorder.subscription())
    # Here with a time of its own, shorter than the rung's ten seconds; the way is the same.
    headers = {
        "x-taskbell-attempt": 1,
        "x-taskbell-exchange": "taskbell.commands",
        "x-taskbell-routing-key": QUEUE,
        "x-taskbell-anonymous": True,
    }
    await harness.management.publish(
        "taskbell.retry.10s",
        QUEUE,
        command(7),
        properties={"expiration": "20", "message_id": "m-7", "headers": headers},
    )
    await recorder.wait_for(1)

    envelope = recorder.done[0].envelope
    assert (envelope.exchange, envelope.routing_key) == ("taskbell.commands", QUEUE)
    assert (envelope.attempt, envelope.again, envelope.redelivered) == (1, True, False)
    assert (envelope.message_id, envelope.anonymous) == ("m-7", True)
    assert not [name for name in envelope.headers if name.startswith(("x-death", "x-first-death", "x-last-death"))]


async def test_what_the_broker_wrote_about_its_death_is_not_in_the_dead_letter(
    harness: ConsumingHarness, recorder: Recorder
) -> None:
    recorder.fail = fails_with(Never("no"))
    await harness.consume(recorder.subscription())
    await harness.management.publish("taskbell.retry.10s", QUEUE, command(7), properties={"expiration": "20"})

    (dead_letter,) = await harness.dead_letters()
    assert not [name for name in dead_letter.headers if "death" in name or "delivery-count" in name]


async def test_copies_to_other_keys_are_made_once_and_not_at_each_retry(
    harness: ConsumingHarness, recorder: Recorder
) -> None:
    recorder.fail = fails_with(ValueError("a bug"), 7)
    await harness.consume(recorder.subscription())
    await harness.publish(command(7), "m-7", headers={"CC": ["maintenance.generate_task_report"]})

    (waiting,) = await harness.dead_letters(queue="taskbell.retry.10s")
    assert "CC" not in waiting.headers
    assert len(await harness.dead_letters(queue="maintenance.generate_task_report")) == 1


async def test_what_waits_together_is_handled_together(harness: ConsumingHarness, recorder: Recorder) -> None:
    await harness.publish_many(25)
    held = asyncio.Event()
    recorder.before = held.wait
    await harness.consume(recorder.subscription(batch=10, prefetch=50))
    await eventually(lambda: recorder.sets)
    held.set()
    await recorder.wait_for(25)

    assert sorted(recorder.numbers) == list(range(1, 26))
    assert max(len(each) for each in recorder.sets) <= 10
    assert len(recorder.sets) < 25


async def test_of_a_set_only_the_culprit_is_retried(harness: ConsumingHarness, recorder: Recorder) -> None:
    await harness.publish_many(10)
    recorder.fail = fails_with(ValueError("five is bad"), 5)
    await harness.consume(recorder.subscription(batch=100, prefetch=100))

    (waiting,) = await harness.dead_letters(queue="taskbell.retry.10s")
    assert waiting.json()["task_id"] == 5
    await recorder.wait_for(9)
    assert sorted(recorder.numbers) == [1, 2, 3, 4, 6, 7, 8, 9, 10]


async def test_each_of_a_set_gets_its_own_fate(harness: ConsumingHarness, recorder: Recorder) -> None:
    await harness.publish_many(6)

    def fail(messages: Sequence[Received[Any]]) -> Exception | None:
        numbers = {message.body.task_id for message in messages}
        if 2 in numbers:
            return Never("two")
        return ValueError("four") if 4 in numbers else None

    recorder.fail = fail
    await harness.consume(recorder.subscription(batch=100, prefetch=100))
    (dead_letter,) = await harness.dead_letters()
    (waiting,) = await harness.dead_letters(queue="taskbell.retry.10s")
    await recorder.wait_for(4)
    assert (dead_letter.json()["task_id"], waiting.json()["task_id"]) == (2, 4)
    assert sorted(recorder.numbers) == [1, 3, 5, 6]


async def test_what_was_delivered_before_is_handled_alone(harness: ConsumingHarness, recorder: Recorder) -> None:
    await harness.publish_many(5)
    # Somebody takes them and goes away without a word.
    held = Recorder()
    held.before = asyncio.Event().wait
    running = await harness.consume(held.subscription(batch=5, prefetch=4))  # and one that it asked for
    await eventually(lambda: held.sets)
    running.task.cancel()
    await asyncio.wait([running.task])
    await harness.publish_many(5, start=6)
    await eventually(lambda: harness._has(QUEUE, 10))
    harness._running.clear()

    await harness.consume(recorder.subscription(batch=100, prefetch=100))
    await recorder.wait_for(10)
    again = [each for each in recorder.sets if any(message.envelope.redelivered for message in each)]
    assert sorted(message.body.task_id for each in again for message in each) == [1, 2, 3, 4, 5]
    assert [len(each) for each in again] == [1] * 5
    assert sorted(recorder.numbers) == list(range(1, 11))


async def test_workers_handle_as_many_sets_at_the_same_time(harness: ConsumingHarness, recorder: Recorder) -> None:
    await harness.publish_many(4)
    together = asyncio.Barrier(3)
    recorder.before = together.wait
    await harness.consume(recorder.subscription(workers=3, prefetch=3))
    await recorder.wait_for(3)
    await together.abort()
    await eventually(lambda: len(recorder.sets) == 4)
    await harness.management.call("DELETE", "/queues/{vhost}/taskbell.retry.10s/contents")


async def test_no_more_is_held_than_the_prefetch_allows(harness: ConsumingHarness, recorder: Recorder) -> None:
    held = asyncio.Event()
    recorder.before = held.wait
    await harness.consume(recorder.subscription(prefetch=3))
    await harness.publish_many(10)
    await eventually(lambda: recorder.sets)

    async def seven_are_left() -> bool:
        return await harness.ready_in(QUEUE) == 7

    await eventually(seven_are_left)
    held.set()
    await recorder.wait_for(10)


async def test_a_group_consumes_from_all_its_queues_each_at_its_own_pace(harness: ConsumingHarness) -> None:
    slow, quick = Recorder(), Recorder()
    held = asyncio.Event()
    slow.before = held.wait
    await harness.consume(
        slow.subscription(), quick.subscription("maintenance.generate_task_report", GenerateTaskReport, prefetch=10)
    )
    await harness.publish(command(1), "m-1")
    await eventually(lambda: slow.sets)
    for number in range(20):
        await harness.publish(b"{}", f"r-{number}", "maintenance.generate_task_report")
    await quick.wait_for(20)
    assert slow.done == []
    held.set()
    await slow.wait_for(1)


async def test_a_record_that_fails_does_not_keep_the_dead_letter_back(
    harness: ConsumingHarness, recorder: Recorder
) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("the record cannot be written")

    recorder.invalid = broken  # type: ignore[method-assign, assignment]
    recorder.dead = broken  # type: ignore[method-assign, assignment]
    recorder.fail = fails_with(Never("no"), 2)
    await harness.consume(recorder.subscription())
    await harness.publish(b"{}", "m-1")
    await harness.publish(command(2), "m-2")
    dead_letters = await harness.dead_letters(2)
    assert {dead_letter.properties["message_id"] for dead_letter in dead_letters} == {"m-1", "m-2"}


async def test_what_does_not_validate_is_refused_together_and_a_refusal_that_fails_one_by_one(
    harness: ConsumingHarness, recorder: Recorder
) -> None:
    told: list[list[str]] = []

    async def invalid(refused: Any) -> None:
        told.append([envelope.message_id for envelope, _ in refused])
        if "m-7" in told[-1]:
            raise RuntimeError("that one cannot be recorded")

    recorder.invalid = invalid  # type: ignore[method-assign]
    for number in range(20):
        await harness.publish(b"{}", f"m-{number}")
    await harness.consume(recorder.subscription(prefetch=50))
    dead_letters = await harness.dead_letters(20)
    assert {dead_letter.properties["message_id"] for dead_letter in dead_letters} == {
        f"m-{number}" for number in range(20)
    }
    assert max(map(len, told)) > 5
    assert ["m-7"] in told
    alone = {names[0] for names in told if len(names) == 1}
    together = {name for names in told if "m-7" not in names for name in names}
    assert alone | together == {f"m-{number}" for number in range(20)}


async def test_fates_are_counted(harness: ConsumingHarness, recorder: Recorder) -> None:
    def counted(fate: str) -> float | None:
        return harness.metrics.registry.get_sample_value("taskbell_messages_total", {"queue": QUEUE, "fate": fate})

    recorder.fail = lambda messages: {2: Never("no"), 3: ValueError("bug")}.get(messages[0].body.task_id)
    await harness.consume(recorder.subscription())
    for number in (1, 2, 3, 4):
        await harness.publish(command(number), f"m-{number}")
    await harness.publish(b"", "m-5")
    await eventually(lambda: (counted("done"), counted("dead"), counted("retried")) == (2, 2, 1))
    observed = harness.metrics.registry.get_sample_value("taskbell_message_seconds_count", {"queue": QUEUE})
    assert observed == 5
    await harness.dead_letters(2)


async def test_a_message_of_the_same_id_is_delivered_as_often_as_it_was_published(
    harness: ConsumingHarness, recorder: Recorder
) -> None:
    """That it takes effect once is the handler's part: nothing is dropped on the way to it."""
    await harness.consume(recorder.subscription())
    for _ in range(3):
        await harness.publisher.publish(Outgoing("taskbell.commands", QUEUE, command(7), "same", mandatory=True))
    await recorder.wait_for(3)
    assert [message.message_id for message in recorder.done] == ["same"] * 3
