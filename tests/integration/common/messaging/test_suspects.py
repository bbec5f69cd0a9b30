"""What has come back again and again may be what ends the process: nothing is held beside it."""

import asyncio

import aio_pika
import pytest
from tests.integration.common.messaging.harness import DEAD, QUEUE, ConsumingHarness, Recorder
from tests.support.waiting import eventually

from taskbell.messaging.consuming import dispatcher, session


async def come_back(harness: ConsumingHarness, *, times: int, count: int) -> None:
    """So many messages of the queue are taken and given back, so often, without being handled."""
    connection = await aio_pika.connect(harness.url)
    async with connection:
        for _ in range(times):
            channel = await connection.channel()
            queue = await channel.get_queue(QUEUE, ensure=False)
            for _ in range(count):
                await queue.get()
            await channel.close()
            await eventually(lambda: harness._has(QUEUE, count))


class Counting(Recorder):
    """Notes how many messages are left in the queue whenever it is given some."""

    def __init__(self, harness: ConsumingHarness) -> None:
        super().__init__()
        self._rig = harness
        self.left: list[int] = []
        self.go_on = asyncio.Event()
        self.before = self._count

    async def _count(self) -> None:
        self.left.append(await self._rig.ready_in(QUEUE))
        await self.go_on.wait()


async def test_suspects_are_taken_one_by_one_and_after_them_as_many_as_may_be_held(harness: ConsumingHarness) -> None:
    await harness.publish_many(4)
    await come_back(harness, times=dispatcher.SUSPECT, count=4)
    await harness.publish_many(6, start=5)
    counting = Counting(harness)
    counting.go_on.set()
    await harness.consume(counting.subscription(batch=100, prefetch=100))
    await counting.wait_for(10)

    assert counting.numbers == list(range(1, 11))
    assert [len(each) for each in counting.sets[:4]] == [1, 1, 1, 1]
    assert counting.left[:4] == [9, 8, 7, 6]
    assert len(counting.sets) < 10


async def test_what_came_back_once_holds_nobody_up(harness: ConsumingHarness) -> None:
    await harness.publish_many(4)
    await come_back(harness, times=1, count=4)
    counting = Counting(harness)
    await harness.consume(counting.subscription(batch=100, prefetch=100))

    async def all_are_held() -> bool:
        return bool(counting.sets) and await harness.ready_in(QUEUE) == 0

    await eventually(all_are_held)
    counting.go_on.set()
    await counting.wait_for(4)


async def test_paused_and_stopped_between_suspects_it_leaves_them_in_the_queue(harness: ConsumingHarness) -> None:
    await harness.publish_many(5)
    await come_back(harness, times=dispatcher.SUSPECT, count=5)
    counting = Counting(harness)
    running = await harness.consume(counting.subscription(batch=100, prefetch=100))
    await eventually(lambda: counting.left)
    running.consumers.pause()
    await eventually(lambda: harness.state() == {"state": "degraded", "detail": "paused"})
    counting.go_on.set()
    await counting.wait_for(1)
    await eventually(lambda: harness._has(QUEUE, 4))
    assert counting.numbers == [1]

    counting.go_on.clear()
    running.consumers.resume()
    await eventually(lambda: len(counting.left) == 2)
    running.stop.set()
    counting.go_on.set()
    await asyncio.wait_for(running.task, 10)
    assert counting.numbers == [1, 2]
    assert len(await harness.management.take(QUEUE)) == 3
    assert await harness.ready_in(DEAD) == 0


async def test_suspects_that_come_among_others_are_given_back_and_then_taken_alone(harness: ConsumingHarness) -> None:
    """So they come from another process that died, to one that holds as many as it may."""
    counting = Counting(harness)
    await harness.publish_many(3)
    await come_back(harness, times=dispatcher.SUSPECT - 1, count=3)
    holder = await aio_pika.connect(harness.url)
    held = await (await holder.channel()).get_queue(QUEUE, ensure=False)
    for _ in range(3):
        await held.get()
    await harness.consume(counting.subscription(batch=1, prefetch=100))
    await harness.publish_many(4, start=4)
    await eventually(lambda: counting.left == [0])
    await holder.close()
    await eventually(lambda: harness._has(QUEUE, 6))  # all but the one that is being handled

    counting.go_on.set()
    await counting.wait_for(7)
    assert counting.numbers[:1] == [4]
    assert sorted(counting.numbers) == list(range(1, 8))
    suspects = [number for number, each in enumerate(counting.sets) if each[0].body.task_id <= 3]
    assert suspects == [1, 2, 3]
    assert [counting.left[number] for number in suspects] == [5, 4, 3]


async def test_a_broker_that_does_not_answer_between_suspects_costs_the_session_and_no_message(
    harness: ConsumingHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    await harness.publish_many(3)
    await come_back(harness, times=dispatcher.SUSPECT, count=3)
    begin = session.ConsumingSession._begin
    silent = 1

    async def begin_or_wait(self: session.ConsumingSession, dispatcher: object) -> bool:
        nonlocal silent
        if recorder.done and silent:
            silent -= 1
            raise TimeoutError
        return await begin(self, dispatcher)  # type: ignore[arg-type]

    monkeypatch.setattr(session.ConsumingSession, "_begin", begin_or_wait)
    recorder = Recorder()
    await harness.consume(recorder.subscription(batch=100, prefetch=100))
    await recorder.wait_for(3)
    assert recorder.numbers == [1, 2, 3]
    assert not silent


async def test_who_is_one_of_a_kind_by_its_prefetch_needs_no_look(harness: ConsumingHarness) -> None:
    await harness.publish_many(3)
    await come_back(harness, times=dispatcher.SUSPECT, count=3)
    counting = Counting(harness)
    counting.go_on.set()
    await harness.consume(counting.subscription(prefetch=1))
    await counting.wait_for(3)
    assert counting.left == [2, 1, 0]
