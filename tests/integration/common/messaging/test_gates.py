"""Messages while a server that their handlers need is away: held, not counted, not hammered."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
import pytest_asyncio
from tests.integration.common.messaging.harness import DEAD, NAME, QUEUE, ConsumingHarness, Recorder, command
from tests.support.waiting import eventually

from taskbell.errors import BrokerUnavailable, DatabaseUnavailable, Unavailable
from taskbell.gate import Gate
from taskbell.messaging.consuming import consumers
from taskbell.messaging.consuming.delivery import Received


class Server:
    """Something that handlers need."""

    def __init__(self, harness: ConsumingHarness, recorder: Recorder, **more: Any) -> None:
        self.away = False
        self.probes = 0
        self.answers_probes_when_away = False
        self.gate = Gate("postgresql", self.probe, harness.health, **more)
        recorder.fail = self.fail

    async def probe(self) -> None:
        self.probes += 1
        if self.away and not self.answers_probes_when_away:
            raise DatabaseUnavailable("connection refused")

    def fail(self, _: Sequence[Received[Any]]) -> Exception | None:
        return DatabaseUnavailable("connection refused") if self.away else None


@pytest_asyncio.fixture
async def server(harness: ConsumingHarness, recorder: Recorder) -> AsyncIterator[Server]:
    server = Server(harness, recorder)
    stop = asyncio.Event()
    probing = asyncio.create_task(server.gate.run(stop))
    yield server
    stop.set()
    await probing


async def is_held(harness: ConsumingHarness, count: int) -> bool:
    """None of these is ready in the queue: all are held."""
    return await harness.ready_in(QUEUE) == 0 and count > 0


async def test_nothing_is_taken_before_the_server_answers(
    harness: ConsumingHarness, recorder: Recorder, server: Server
) -> None:
    server.away = True
    server.gate.trip("not yet")
    await harness.publish(command(1), "m-1")
    harness.start(recorder.subscription(), gates=[server.gate])
    await eventually(lambda: harness.state() == {"state": "waiting", "detail": "for postgresql"})
    probes = server.probes
    await eventually(lambda: server.probes > probes + 1)
    assert await harness.ready_in(QUEUE) == 1
    server.away = False
    await recorder.wait_for(1)
    assert not recorder.done[0].envelope.redelivered


async def test_while_it_is_away_messages_are_held_and_then_go_on_as_if_nothing_had_been(
    harness: ConsumingHarness, recorder: Recorder, server: Server
) -> None:
    await harness.consume(recorder.subscription(batch=10, prefetch=100), gates=[server.gate])
    server.away = True
    await harness.publish_many(100)
    await eventually(lambda: is_held(harness, 100))
    await eventually(lambda: not server.gate.is_open)
    probes = server.probes
    await eventually(lambda: server.probes >= probes + 3)
    # One set met the closed door; the others wait behind it.
    assert len(recorder.sets) == 1
    assert not harness.health.ready

    server.away = False
    await recorder.wait_for(100)
    assert sorted(recorder.numbers) == list(range(1, 101))
    assert recorder.numbers[:10] == list(range(1, 11)), "those that were taken first come first"
    assert not any(message.envelope.again for message in recorder.done)
    assert await harness.ready_in(DEAD) == 0
    assert await harness.ready_in("taskbell.retry.10s") == 0


async def test_a_server_that_answers_only_the_probe_is_not_met_in_a_hot_loop(
    harness: ConsumingHarness, recorder: Recorder, server: Server
) -> None:
    server.answers_probes_when_away = True
    await harness.consume(recorder.subscription(), gates=[server.gate])
    server.away = True
    started = asyncio.get_running_loop().time()
    await harness.publish(command(1), "m-1")
    await eventually(lambda: len(recorder.sets) >= 5)
    # At once, at once, then after 0.2, 0.4 and 0.8 s at the earliest.
    assert asyncio.get_running_loop().time() - started >= 1.4
    server.away = False
    await recorder.wait_for(1)


async def test_away_for_longer_the_messages_go_back_once_and_wait_in_their_queue(
    harness: ConsumingHarness, recorder: Recorder, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumers, "HOLD", 0.3)
    await harness.consume(recorder.subscription(batch=10, prefetch=20), gates=[server.gate])
    server.away = True
    await harness.publish_many(30)
    await eventually(lambda: harness._has(QUEUE, 30))
    await eventually(lambda: harness.state() == {"state": "waiting", "detail": "for postgresql"})
    probes = server.probes
    await eventually(lambda: server.probes >= probes + 3)
    assert await harness.ready_in(QUEUE) == 30

    server.away = False
    await recorder.wait_for(30)
    assert sorted(recorder.numbers) == list(range(1, 31))
    assert sum(message.envelope.redelivered for message in recorder.done) == 20
    deliveries = [message.envelope.headers.get("x-delivery-count", 0) for message in recorder.done]
    assert deliveries == [0] * 30, "brokers' headers are not ours"
    assert await harness.ready_in(DEAD) == 0


async def test_an_outage_costs_each_message_at_most_one_redelivery(
    harness: ConsumingHarness, recorder: Recorder, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumers, "HOLD", 0.2)
    await harness.publish_many(10)
    server.away = True
    await harness.consume(recorder.subscription(batch=5, prefetch=10), gates=[server.gate])
    await eventually(lambda: harness._has(QUEUE, 10))
    await eventually(lambda: server.probes >= 6)
    await harness.stop()
    counts = [message.properties["headers"]["x-delivery-count"] for message in await harness.management.take(QUEUE)]
    assert counts == [1] * 10


async def test_a_gate_that_only_degrades_keeps_readiness_green_also_when_messages_went_back(
    harness: ConsumingHarness, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumers, "HOLD", 0.1)
    server = Server(harness, recorder, closed="degraded")
    stop = asyncio.Event()
    probing = asyncio.create_task(server.gate.run(stop))
    await harness.consume(recorder.subscription(), gates=[server.gate])
    server.away = True
    await harness.publish(command(1), "m-1")
    await eventually(lambda: harness.state() == {"state": "degraded", "detail": "for postgresql"})
    assert harness.health.ready
    server.away = False
    await recorder.wait_for(1)
    stop.set()
    await probing


async def test_an_error_that_concerns_no_gate_is_waited_out_and_not_counted(
    harness: ConsumingHarness, recorder: Recorder
) -> None:
    failures: list[Unavailable] = [BrokerUnavailable("no confirm"), BrokerUnavailable("no confirm")]
    recorder.fail = lambda _: failures.pop() if failures else None
    await harness.consume(recorder.subscription())
    started = asyncio.get_running_loop().time()
    await harness.publish(command(1), "m-1")
    await recorder.wait_for(1)
    assert asyncio.get_running_loop().time() - started >= 2.0
    assert not recorder.done[0].envelope.again


async def test_stopped_while_the_server_is_away_everything_returns(
    harness: ConsumingHarness, recorder: Recorder, server: Server
) -> None:
    await harness.consume(recorder.subscription(batch=10, prefetch=50), gates=[server.gate])
    server.away = True
    await harness.publish_many(30)
    await eventually(lambda: is_held(harness, 30))
    await harness.stop()
    assert await harness.ready_in(QUEUE) == 30
    await harness.management.take(QUEUE)


async def test_a_message_that_cannot_be_recorded_yet_waits_for_the_database_too(
    harness: ConsumingHarness, recorder: Recorder, server: Server
) -> None:
    async def invalid(refused: Any) -> None:
        if server.away:
            raise DatabaseUnavailable("connection refused")
        recorder.told += refused

    recorder.invalid = invalid  # type: ignore[method-assign]
    await harness.consume(recorder.subscription(), gates=[server.gate])
    server.away = True
    await harness.publish(b"{}", "m-1")
    await eventually(lambda: not server.gate.is_open)
    assert await harness.ready_in(DEAD) == 0
    server.away = False
    (dead_letter,) = await harness.dead_letters()
    assert dead_letter.properties["message_id"] == "m-1"
    assert len(recorder.told) == 1
    assert harness.health.report()["parts"][NAME]["state"] == "ready"
