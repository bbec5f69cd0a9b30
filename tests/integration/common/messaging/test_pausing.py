"""Pausing strands no message, and costs none a delivery."""

import asyncio

from tests.integration.common.messaging.harness import DEAD, QUEUE, ConsumingHarness, Recorder, command
from tests.support.waiting import eventually


async def test_paused_a_hundred_times_under_load_every_message_is_handled_once_and_none_was_returned(
    harness: ConsumingHarness, recorder: Recorder
) -> None:
    async def before() -> None:
        await asyncio.sleep(0.002)

    recorder.before = before
    running = await harness.consume(recorder.subscription(batch=10, prefetch=40))
    published = 0
    paused = 0
    while paused < 100:
        await harness.publish_many(20, start=published + 1)
        published += 20
        running.consumers.pause()
        await eventually(lambda: harness.state() == {"state": "degraded", "detail": "paused"})
        running.consumers.resume()
        await harness.ready()
        paused += 1
    await recorder.wait_for(published)

    assert sorted(recorder.numbers) == list(range(1, published + 1))
    assert sum(message.envelope.redelivered for message in recorder.done) == 0
    assert await harness.ready_in(DEAD) == 0


async def test_pausing_finishes_what_is_held_and_leaves_the_rest_in_the_queue(
    harness: ConsumingHarness, recorder: Recorder
) -> None:
    held = asyncio.Event()
    recorder.before = held.wait
    running = await harness.consume(recorder.subscription(batch=2, prefetch=6))
    await harness.publish_many(10)

    async def four_are_left() -> bool:
        return await harness.ready_in(QUEUE) == 4

    await eventually(four_are_left)
    running.consumers.pause()
    await eventually(lambda: harness.state()["state"] == "degraded")
    assert harness.health.ready
    held.set()
    await recorder.wait_for(6)
    await eventually(four_are_left)
    assert len(recorder.done) == 6
    running.consumers.resume()
    await recorder.wait_for(10)
    assert not any(message.envelope.redelivered for message in recorder.done)


async def test_paused_before_it_started_it_takes_nothing_and_is_only_degraded(
    harness: ConsumingHarness, recorder: Recorder
) -> None:
    running = harness.start(recorder.subscription())
    running.consumers.pause()
    await eventually(lambda: harness.state() == {"state": "degraded", "detail": "paused"})
    await harness.publish(command(1), "m-1")
    assert await harness.ready_in(QUEUE) == 1
    running.consumers.resume()
    await recorder.wait_for(1)


async def test_resumed_at_once_it_goes_on(harness: ConsumingHarness, recorder: Recorder) -> None:
    running = await harness.consume(recorder.subscription())
    for number in range(1, 6):
        running.consumers.pause()
        running.consumers.resume()
        await harness.publish(command(number), f"m-{number}")
    await recorder.wait_for(5)
    assert not any(message.envelope.redelivered for message in recorder.done)


async def test_stopped_while_paused_it_ends(harness: ConsumingHarness, recorder: Recorder) -> None:
    running = await harness.consume(recorder.subscription())
    running.consumers.pause()
    await eventually(lambda: harness.state()["state"] == "degraded")
    running.stop.set()
    await asyncio.wait_for(running.task, 10)


async def test_stopped_while_it_is_pausing_it_waits_for_what_is_being_handled(
    harness: ConsumingHarness, recorder: Recorder
) -> None:
    held = asyncio.Event()
    recorder.before = held.wait
    running = await harness.consume(recorder.subscription(prefetch=5))
    await harness.publish_many(5)
    await eventually(lambda: recorder.sets)
    running.consumers.pause()
    await eventually(lambda: harness.state()["state"] == "degraded")
    running.stop.set()
    await eventually(lambda: harness._has(QUEUE, 4))
    held.set()
    await asyncio.wait_for(running.task, 10)
    assert recorder.numbers == [1]
    await harness.management.take(QUEUE)
