"""Bodies that are too large to be handled: dead letters have their beginning, and the consumer's memory stays flat."""

import tracemalloc

import pytest
from tests.integration.common.messaging.harness import DEAD, QUEUE, ConsumingHarness, Recorder, command
from tests.integration.common.messaging.raw import RawPublisher, short
from tests.support.vhosts import Vhost
from tests.support.waiting import eventually

from taskbell.messaging.publishing.outgoing import Outgoing

MIB = 1024 * 1024
LARGE = command(7, "x" * (3 * MIB))


@pytest.mark.parametrize("waits", [False, True], ids=["comes while we consume", "waits for us"])
async def test_the_dead_letter_has_the_first_kibibyte_and_the_size(
    harness: ConsumingHarness, recorder: Recorder, waits: bool
) -> None:
    if not waits:
        await harness.consume(recorder.subscription())
    await harness.publish(LARGE, "m-7", correlation_id="c-1", headers={"x-mine": 1})
    if waits:
        await harness.consume(recorder.subscription())
    (dead_letter,) = await harness.dead_letters()
    assert dead_letter.body == LARGE[:1024]
    assert dead_letter.headers == {
        "x-mine": 1,
        "x-taskbell-reason": f"body of {len(LARGE)} bytes is larger than {2 * MIB}",
        "x-taskbell-size": len(LARGE),
        "x-taskbell-queue": QUEUE,
        "x-taskbell-exchange": "taskbell.commands",
        "x-taskbell-routing-key": QUEUE,
        "x-taskbell-attempt": 0,
    }
    assert dead_letter.properties["message_id"] == "m-7"
    assert [reason for _, reason in recorder.told] == [dead_letter.headers["x-taskbell-reason"]]


async def test_what_is_left_of_it_is_not_taken_for_the_whole_when_it_is_moved_back(
    harness: ConsumingHarness, recorder: Recorder
) -> None:
    await harness.consume(recorder.subscription())
    body = command(7).ljust(1024)
    headers = {
        "x-taskbell-size": 3 * MIB,
        "x-taskbell-exchange": "taskbell.commands",
        "x-taskbell-routing-key": QUEUE,
    }
    await harness.publisher.publish(Outgoing("", QUEUE, body, "m-7", headers=headers, mandatory=True))
    (dead_letter,) = await harness.dead_letters()
    assert dead_letter.headers["x-taskbell-reason"] == f"body of {3 * MIB} bytes is larger than {2 * MIB}"
    assert (dead_letter.headers["x-taskbell-size"], dead_letter.body) == (3 * MIB, body)
    assert recorder.sets == []


async def test_a_hundred_mebibytes_that_wait_do_not_fill_the_memory(
    harness: ConsumingHarness, recorder: Recorder, module_vhost: Vhost
) -> None:
    async with RawPublisher(module_vhost.url) as raw:
        for number in range(34):
            assert await raw.publish("taskbell.commands", QUEUE.encode(), LARGE, {"message_id": short(b"%d" % number)})
    tracemalloc.start()
    try:
        await harness.consume(recorder.subscription(batch=200, prefetch=1000))
        await harness.publish(command(4711), "good")
        await eventually(lambda: 4711 in recorder.numbers, what="the good one behind them")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 * MIB
    dead_letters = await harness.dead_letters(34)
    assert {len(it.body) for it in dead_letters} == {1024}
    assert await harness.ready_in(DEAD) == 0
