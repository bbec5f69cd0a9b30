"""Consuming when what it rests on goes away: connection, queue, consumer, process."""

import asyncio
import struct
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiormq.connection import Connection
from tests.integration.common.messaging.harness import DEAD, QUEUE, ConsumingHarness, Recorder, command
from tests.support.proxy import Proxy
from tests.support.vhosts import Vhost
from tests.support.waiting import eventually

from taskbell.contracts import GenerateTaskReport, UpdateTaskStatus
from taskbell.errors import ConsumerGone
from taskbell.messaging.consuming import session
from taskbell.messaging.consuming.dispatcher import Dispatcher
from taskbell.messaging.consuming.session import ConsumingSession
from taskbell.messaging.wire.connection import HEARTBEAT, connection_url
from taskbell.setup.broker import declare

REPORTS = "maintenance.generate_task_report"


@pytest_asyncio.fixture
async def proxy(module_vhost: Vhost) -> AsyncIterator[Proxy]:
    async with Proxy(module_vhost.url) as proxy:
        yield proxy


async def connections(harness: ConsumingHarness) -> list[str]:
    """The names of the broker's connections that consume."""
    found = await harness.management.call("GET", "/vhosts/{vhost}/connections")
    return [it["name"] for it in found if it.get("user_provided_name") == "harness consume"]


async def test_a_connection_that_an_operator_closes_is_made_anew(harness: ConsumingHarness, recorder: Recorder) -> None:
    await harness.consume(recorder.subscription())
    (name,) = await eventually(lambda: connections(harness))
    await harness.management.call("DELETE", f"/connections/{name.replace(' ', '%20').replace('>', '%3E')}")
    await eventually(lambda: harness.state()["state"] == "waiting")
    assert "lost" in harness.state()["detail"] or "closed" in harness.state()["detail"]
    await harness.ready()
    await harness.publish(command(1), "m-1")
    await recorder.wait_for(1)


async def test_lost_connections_lose_no_message(harness: ConsumingHarness, recorder: Recorder, proxy: Proxy) -> None:
    harness.start(recorder.subscription(batch=7, prefetch=20), url=proxy.url)
    await harness.ready()
    for round_ in range(5):
        await harness.publish_many(40, start=1 + 40 * round_)
        proxy.cut()
    await eventually(lambda: set(recorder.numbers) == set(range(1, 201)))
    assert await harness.ready_in(DEAD) == 0


async def test_what_is_being_handled_when_the_connection_is_lost_is_finished_beside_the_next_session(
    harness: ConsumingHarness, recorder: Recorder, proxy: Proxy
) -> None:
    held = asyncio.Event()
    recorder.before = held.wait
    harness.start(recorder.subscription(), url=proxy.url)
    await harness.publish(command(1), "m-1")
    await eventually(lambda: recorder.sets)
    recorder.before = None
    proxy.cut()
    await recorder.wait_for(1)
    assert [message.envelope.redelivered for message in recorder.done] == [True]
    held.set()
    await recorder.wait_for(2)
    assert recorder.numbers == [1, 1]


async def test_stopped_right_after_a_loss_it_still_waits_for_what_is_being_handled(
    harness: ConsumingHarness, recorder: Recorder, proxy: Proxy
) -> None:
    held = asyncio.Event()
    recorder.before = held.wait
    running = harness.start(recorder.subscription(), url=proxy.url)
    await harness.publish(command(1), "m-1")
    await eventually(lambda: recorder.sets)
    proxy.cut()
    await eventually(lambda: harness.state()["state"] == "waiting")
    running.stop.set()
    await asyncio.sleep(0.1)
    assert not running.task.done()
    held.set()
    await running.task
    assert recorder.numbers == [1]
    await harness.management.take(QUEUE)


class Unplugged(Proxy):
    """From `hold` on nothing gets through either way, not even the end of a connection."""

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, from_client: bool) -> None:
        while data := await reader.read(65536):
            await self._passing.wait()
            writer.write(data)
        await self._passing.wait()
        raise ConnectionResetError


async def test_a_peer_that_is_silently_gone_is_noticed(harness: ConsumingHarness, recorder: Recorder) -> None:
    """With a heartbeat of one second: taken for gone after 3 x (1 + 1) seconds of silence, looked at each second."""
    async with Unplugged(harness.url) as proxy:
        harness.start(recorder.subscription(), url=f"{proxy.url}?heartbeat=1")
        await harness.ready()
        proxy.hold()
        await eventually(lambda: harness.state()["state"] == "waiting", limit=30)
        proxy.release()
        await harness.ready()
        await harness.publish(command(1), "m-1")
        await recorder.wait_for(1)
        await harness.stop()


def test_the_usual_heartbeat_notices_it_within_35_seconds() -> None:
    grace = (HEARTBEAT + 1) * Connection.HEARTBEAT_GRACE_MULTIPLIER
    looks_every = HEARTBEAT // 2
    assert grace + looks_every <= 35
    assert f"heartbeat={HEARTBEAT}" in connection_url("amqp://mq/", "x")


async def test_a_queue_that_is_deleted_is_waited_for_and_named(
    own_harness: ConsumingHarness, recorder: Recorder
) -> None:
    await own_harness.consume(recorder.subscription())
    await own_harness.management.call("DELETE", f"/queues/{{vhost}}/{QUEUE}")
    await eventually(lambda: "run `taskbell setup`" in own_harness.state().get("detail", ""))
    assert own_harness.state()["state"] == "waiting"
    assert f"no queue '{QUEUE}'" in own_harness.state()["detail"]

    await declare(own_harness.url)
    await own_harness.ready()
    await own_harness.publish(command(1), "m-1")
    await recorder.wait_for(1)


@pytest.mark.parametrize(
    ("kind", "name"),
    [("queues", REPORTS), ("queues", DEAD), ("queues", "taskbell.retry.1m"), ("exchanges", "taskbell.dead"),
     ("exchanges", "taskbell.retry.10m")],
)  # fmt: skip
async def test_while_anything_is_missing_nothing_is_taken_that_would_have_to_go_back(
    own_harness: ConsumingHarness, recorder: Recorder, kind: str, name: str
) -> None:
    """Each return would count towards the delivery limit: twenty tries, and the broker buries a sound message."""
    await own_harness.publish_many(3)
    await own_harness.management.call("DELETE", f"/{kind}/{{vhost}}/{name}")
    own_harness.start(recorder.subscription(), recorder.subscription(REPORTS, GenerateTaskReport))
    await eventually(lambda: f"'{name}'" in own_harness.state().get("detail", ""))
    assert "run `taskbell setup`" in own_harness.state()["detail"]
    assert await own_harness.ready_in(QUEUE) == 3

    await declare(own_harness.url)
    await recorder.wait_for(3)
    assert not any(message.envelope.redelivered for message in recorder.done)


async def test_before_setup_has_run_it_waits_saying_so(empty_vhost: Vhost, recorder: Recorder) -> None:
    harness = ConsumingHarness(empty_vhost.url, empty_vhost.management)
    harness.start(recorder.subscription())
    await eventually(lambda: "run `taskbell setup`" in harness.state().get("detail", ""))
    await declare(empty_vhost.url)
    await harness.ready()
    await harness.close()


async def test_without_a_broker_it_waits_saying_so(recorder: Recorder, harness: ConsumingHarness) -> None:
    running = harness.start(recorder.subscription(), url="amqp://guest:guest@127.0.0.1:1/")
    await eventually(lambda: harness.state()["detail"].startswith("RabbitMQ: "))
    assert harness.state()["state"] == "waiting"
    running.stop.set()
    await running.task


class DeafToCancel(Proxy):
    """Passes everything on but Basic.Cancel from the broker: its client does not learn that its consumer is gone."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.swallowed = asyncio.Event()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, from_client: bool) -> None:
        if from_client:
            return await super()._pass(reader, writer, from_client=True)
        while head := await reader.read(7):
            head += await reader.readexactly(7 - len(head))
            rest = await reader.readexactly(struct.unpack(">BHI", head)[2] + 1)
            if head[0] == 1 and rest.startswith(struct.pack(">HH", 60, 30)):
                self.swallowed.set()
            else:
                writer.write(head + rest)
        raise ConnectionResetError


async def test_a_consumer_that_is_gone_unnoticed_is_missed_and_replaced(
    own_harness: ConsumingHarness, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "COUNT", 0.2)
    async with DeafToCancel(own_harness.url) as proxy:
        own_harness.start(recorder.subscription(), url=proxy.url)
        await own_harness.ready()
        await own_harness.management.call("DELETE", f"/queues/{{vhost}}/{QUEUE}")
        await proxy.swallowed.wait()
        await declare(own_harness.url)
        await own_harness.publish(command(1), "m-1")
        await eventually(lambda: own_harness.state().get("detail") == f"RabbitMQ knows of no consumer of {QUEUE}")
        assert not own_harness.health.ready
        await recorder.wait_for(1)
        await own_harness.ready()
        await own_harness.stop()


async def test_where_no_consumer_comes_about_in_two_sessions_the_process_must_start_anew(
    own_harness: ConsumingHarness, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def without_consumer(_: ConsumingSession) -> str:
        return QUEUE

    monkeypatch.setattr(session, "COUNT", 0.05)
    monkeypatch.setattr(session, "WATCH", 0.05)
    monkeypatch.setattr(ConsumingSession, "_without_consumer", without_consumer)
    running = own_harness.start(recorder.subscription())
    with pytest.raises(ConsumerGone):
        await running.task
    assert own_harness.state()["state"] == "waiting"
    own_harness._running.clear()


async def test_a_missing_count_now_and_then_is_no_loss(
    harness: ConsumingHarness, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quorum queue that elects a leader answers that it has no consumer."""
    answers = iter([QUEUE, QUEUE, None] * 10)
    asked = 0

    async def without_consumer(_: ConsumingSession) -> str | None:
        nonlocal asked
        asked += 1
        return next(answers, None)

    monkeypatch.setattr(session, "COUNT", 0.01)
    monkeypatch.setattr(session, "WATCH", 0.01)
    monkeypatch.setattr(ConsumingSession, "_without_consumer", without_consumer)
    running = await harness.consume(recorder.subscription())
    await eventually(lambda: asked >= 30)
    assert harness.state() == {"state": "ready"}
    assert not running.task.done()


async def test_stopping_takes_nothing_new_finishes_what_is_being_handled_and_returns_the_rest(
    harness: ConsumingHarness, recorder: Recorder
) -> None:
    held = asyncio.Event()
    recorder.before = held.wait
    running = await harness.consume(recorder.subscription(batch=5, prefetch=20))
    await harness.publish_many(30)
    await eventually(lambda: recorder.sets)
    (first,) = recorder.sets
    running.stop.set()
    await eventually(lambda: harness._has(QUEUE, 30 - len(first)))
    assert not running.task.done()
    held.set()
    await running.task
    assert len(recorder.done) == len(first)
    assert len(recorder.sets) == 1
    assert await harness.ready_in(QUEUE) == 30 - len(first)
    await harness.management.take(QUEUE)


async def test_of_a_failed_set_only_the_message_under_way_is_finished_when_it_stops(
    harness: ConsumingHarness, recorder: Recorder
) -> None:
    await harness.publish_many(5)
    held = asyncio.Event()
    alone = asyncio.Event()

    async def before() -> None:
        if len(recorder.sets[-1]) == 1:
            alone.set()
            await held.wait()

    recorder.before = before
    recorder.fail = lambda messages: ValueError("together") if len(messages) > 1 else None
    running = await harness.consume(recorder.subscription(batch=5, prefetch=5))
    await alone.wait()
    running.stop.set()
    await asyncio.sleep(0.1)
    held.set()
    await running.task
    assert recorder.numbers == [1]
    assert await harness.ready_in(QUEUE) == 4
    await harness.management.take(QUEUE)


async def test_a_handler_that_does_not_end_is_cut_off(
    harness: ConsumingHarness, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "DRAIN", 0.2)
    cancelled = asyncio.Event()

    async def before() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    recorder.before = before
    running = await harness.consume(recorder.subscription())
    await harness.publish(command(1), "m-1")
    await eventually(lambda: recorder.sets)
    running.stop.set()
    await running.task
    assert cancelled.is_set()
    await eventually(lambda: harness._has(QUEUE, 1))
    await harness.management.take(QUEUE)


async def test_a_handler_that_is_cancelled_from_within_has_failed_like_any_other(
    harness: ConsumingHarness, recorder: Recorder
) -> None:
    async def before() -> None:
        raise asyncio.CancelledError

    recorder.before = before
    await harness.consume(recorder.subscription())
    await harness.publish(command(1), "m-1")
    (waiting,) = await harness.dead_letters(queue="taskbell.retry.10s")
    assert waiting.properties["message_id"] == "m-1"
    recorder.before = None
    await harness.publish(command(2), "m-2")
    await recorder.wait_for(1)


async def test_a_worker_that_dies_costs_a_session_and_no_message(
    harness: ConsumingHarness, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "DRAIN", 0.1)
    take = Dispatcher._take
    deaths = 1

    def dying(dispatcher: "Dispatcher[UpdateTaskStatus]") -> object:
        nonlocal deaths
        deaths -= 1
        if deaths == 0:
            raise KeyError("a bug of ours")
        return take(dispatcher)

    monkeypatch.setattr(Dispatcher, "_take", dying)
    await harness.consume(recorder.subscription())
    await harness.publish(command(1), "m-1")
    await recorder.wait_for(1)
    assert recorder.done[0].envelope.redelivered


async def test_messages_that_failed_are_held_while_their_way_out_is_gone_and_readiness_says_so(
    own_harness: ConsumingHarness, recorder: Recorder
) -> None:
    await own_harness.consume(recorder.subscription())
    await own_harness.management.call("DELETE", f"/queues/{{vhost}}/{DEAD}")
    await own_harness.publish(b"{}", "m-1")
    await own_harness.publish(command(2), "m-2")
    await recorder.wait_for(1)
    await eventually(lambda: own_harness.state()["state"] == "waiting")
    assert own_harness.state()["detail"] == "no queue is bound for 'maintenance.dead' at exchange 'taskbell.dead'"

    await declare(own_harness.url)
    (dead_letter,) = await own_harness.dead_letters()
    assert dead_letter.properties["message_id"] == "m-1"
    await own_harness.ready()
