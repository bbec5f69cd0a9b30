"""A broker of our own, that is stopped, killed and short of memory."""

import asyncio
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import pytest_asyncio
from tests.integration.common.messaging.harness import DEAD, QUEUE, ConsumingHarness, Recorder, command
from tests.support.management import Management
from tests.support.waiting import eventually

from taskbell.errors import BrokerUnavailable
from taskbell.messaging.publishing.outgoing import Outgoing
from taskbell.messaging.publishing.publisher import PUBLISH_TIMEOUT, Publisher
from taskbell.messaging.wire.connection_errors import CONNECTION_ERRORS, connection_errors_named
from taskbell.setup.broker import declare
from taskbell_devstack.programs import find_rabbitmq
from taskbell_devstack.stack import Stack


class Broker:
    """A private RabbitMQ."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        state = stack.state.rabbitmq
        assert state is not None
        self.settings = state
        self.url = state.url
        self.management = Management(state.management_url, state.url, "/")

    async def start(self) -> None:
        await asyncio.to_thread(self.stack.start, "rabbitmq")

    async def stop(self) -> None:
        await asyncio.to_thread(self.stack.stop, "rabbitmq")

    async def kill(self) -> None:
        await asyncio.to_thread(self.stack.kill, "rabbitmq")

    async def run_short_of_memory(self) -> None:
        await asyncio.to_thread(self._ctl, "set_vm_memory_high_watermark", "0")
        await eventually(self._alarmed, limit=60)

    async def have_memory_again(self) -> None:
        await asyncio.to_thread(self._ctl, "set_vm_memory_high_watermark", "0.4")

    async def _alarmed(self) -> bool:
        (node,) = await self.management.call("GET", "/nodes")
        return bool(node.get("mem_alarm"))

    def _ctl(self, *words: str) -> None:
        programs = find_rabbitmq()
        assert programs is not None
        home = self.settings.home
        environment = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": str(home),
            "LANG": "C.UTF-8",
            "ERL_EPMD_PORT": str(self.settings.epmd_port),
            "RABBITMQ_NODENAME": "taskbell@localhost",
            "RABBITMQ_CONF_ENV_FILE": str(home / "empty"),
        }
        subprocess.run([programs.server.with_name("rabbitmqctl"), *words], env=environment, check=True, timeout=60)


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    folder = Path(tempfile.mkdtemp(prefix="taskbell-broker-"))
    folder.chmod(0o755)
    stack = Stack(folder / "stack", servers=["rabbitmq"])
    stack.up()
    yield stack
    stack.down(at_once=True, remove_data=True)
    shutil.rmtree(folder)


@pytest_asyncio.fixture(scope="module")
async def broker(stack: Stack) -> AsyncIterator[Broker]:
    """With our topology, safely on its disk: 3.10 writes the names of new quorum queues down when it is stopped."""
    broker = Broker(stack)
    await declare(broker.url)
    await broker.stop()
    await broker.start()
    yield broker
    await broker.management.close()


@pytest_asyncio.fixture
async def harness(broker: Broker) -> AsyncIterator[ConsumingHarness]:
    harness = ConsumingHarness(broker.url, broker.management)
    harness.publisher = Publisher(broker.url, name="harness publish", timeout=1)
    yield harness
    await harness.close()


async def publish_until_taken(harness: ConsumingHarness, number: int) -> None:
    async def taken() -> bool:
        try:
            await harness.publish(command(number), f"m-{number}")
        except BrokerUnavailable:
            return False
        return True

    await eventually(taken, limit=60)


async def test_short_of_memory_publishes_fail_in_time_consuming_goes_on_and_all_catches_up(
    broker: Broker, harness: ConsumingHarness, recorder: Recorder
) -> None:
    held = asyncio.Event()
    recorder.before = held.wait
    await harness.consume(recorder.subscription(prefetch=1))
    await harness.publish_many(20)
    await broker.run_short_of_memory()
    try:
        # It lets through what is on its way when it notices, and then no more.
        failed: list[str] = []
        for number in range(100, 104):
            started = time.monotonic()
            try:
                await harness.publish(command(number), f"m-{number}")
            except BrokerUnavailable as error:
                failed.append(str(error))
            assert time.monotonic() - started < 5, "a publish here may block for one second"
        assert "RabbitMQ takes no messages for 1 s now: it is short of memory or disk" in failed
        assert PUBLISH_TIMEOUT == 5, "elsewhere"
        with pytest.raises(BrokerUnavailable, match="takes no messages now"):
            await harness.publisher.connect()

        held.set()
        await recorder.wait_for(20)
        assert harness.state() == {"state": "ready"}
        names = await broker.management.call("GET", "/vhosts/{vhost}/connections")
        assert [it["user_provided_name"] for it in names].count("harness publish") == 1, "it waits where it is"
    finally:
        await broker.have_memory_again()
    await publish_until_taken(harness, 200)
    await eventually(lambda: 200 in recorder.numbers)
    assert set(range(1, 21)) <= set(recorder.numbers) <= {*range(1, 21), *range(100, 104), 200}


async def test_what_cannot_be_moved_to_the_dead_letters_during_an_alarm_is_moved_after_it(
    broker: Broker, harness: ConsumingHarness, recorder: Recorder
) -> None:
    await harness.consume(recorder.subscription())
    held = asyncio.Event()
    recorder.before = held.wait
    recorder.fail = lambda messages: ValueError("bug") if messages[0].body.task_id == 7 else None
    await harness.publish(command(7), "m-7")
    await harness.publish(command(8), "m-8")
    await eventually(lambda: recorder.sets)
    await broker.run_short_of_memory()
    try:
        # The first ones slip through, until the broker has told the connection.
        for number in range(3):
            with suppress(BrokerUnavailable):
                await harness.publisher.publish(Outgoing("taskbell.events", "tasks.archived", b"{}", f"x-{number}"))
        held.set()
        await eventually(lambda: harness.state()["state"] == "waiting")
        assert "short of memory or disk" in harness.state()["detail"]
    finally:
        await broker.have_memory_again()
    (waiting,) = await harness.dead_letters(queue="taskbell.retry.10s")
    assert waiting.properties["message_id"] == "m-7"
    await recorder.wait_for(1)
    assert recorder.numbers == [8]
    await harness.ready()


@pytest.mark.parametrize("end", ["stop", "kill"])
async def test_a_broker_that_comes_back_is_consumed_from_within_ten_seconds_and_nothing_is_lost(
    broker: Broker, harness: ConsumingHarness, recorder: Recorder, end: str
) -> None:
    await harness.consume(recorder.subscription(batch=5, prefetch=10))
    await harness.publish_many(30)
    held = asyncio.Event()
    recorder.before = held.wait
    await harness.publish_many(30, start=31)
    await (broker.stop() if end == "stop" else broker.kill())
    await eventually(lambda: harness.state()["state"] == "waiting", limit=60)
    with pytest.raises(BrokerUnavailable):
        await harness.publish(command(999), "m-999")
    held.set()
    recorder.before = None

    await broker.start()
    await eventually(lambda: harness.state()["state"] == "ready", limit=10)
    await publish_until_taken(harness, 61)
    await eventually(lambda: set(recorder.numbers) == set(range(1, 62)))
    assert await harness.ready_in(DEAD) == 0
    assert all(message.envelope.attempt == 0 for message in recorder.done)


async def test_started_before_its_broker_a_consumer_waits_for_it(
    broker: Broker, harness: ConsumingHarness, recorder: Recorder
) -> None:
    await broker.stop()
    harness.start(recorder.subscription())
    await eventually(lambda: harness.state()["detail"].startswith("RabbitMQ: "), limit=60)
    await broker.start()
    await eventually(lambda: harness.state()["state"] == "ready", limit=10)
    await harness.publish(command(1), "m-1")
    await recorder.wait_for(1)


async def test_a_topology_declared_again_changes_nothing(broker: Broker, harness: ConsumingHarness) -> None:
    await harness.publish(command(1), "m-1")
    await declare(broker.url)
    assert await harness.ready_in(QUEUE) == 1
    await harness.management.take(QUEUE)


async def test_quorum_queues_keep_what_was_confirmed_when_the_broker_is_killed(
    broker: Broker, harness: ConsumingHarness
) -> None:
    await harness.publish_many(100)
    await broker.kill()
    await broker.start()

    async def all_there() -> bool:
        try:
            with connection_errors_named():
                return await harness.ready_in(QUEUE) == 100
        except CONNECTION_ERRORS:
            return False

    await eventually(all_there, limit=60)
    await harness.management.take(QUEUE)
