"""Each fence is attacked twice: with it nothing happens, and without it the damage shows.

So each of these attacks fails when its fence is missing; tests/chaos/fences.py says how each is taken out.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest
import pytest_asyncio

from taskbell.commands import Outcome
from taskbell.database import Database, Transaction
from taskbell.gate import Gate
from taskbell.health import Health
from taskbell.messaging.publisher import Publisher
from taskbell.metrics import Metrics
from taskbell.outbox import Outbox, Relay
from taskbell_notifier.mail.links import Links
from taskbell_notifier.mail.render import Renderer
from tests.chaos import fences
from tests.integration.common.outbox.test_commands import Command, Shop, command
from tests.integration.notifier.ledger.house import Town, settings_for
from tests.integration.notifier.ledger.rooms import Rooms
from tests.integration.scheduler.conftest import MINUTELY, World
from tests.support.proxy import Proxy
from tests.support.scripted_smtp import ScriptedSmtp
from tests.support.vhosts import Vhost
from tests.support.virtual_clock import VirtualClock
from tests.support.waiting import eventually

fenced = pytest.mark.parametrize("fence", [True, False], ids=["with the fence", "without it"])

TIME_PASSES = (
    "UPDATE taskbell.delivery SET lease_until = now() - interval '1 s', due_at = now() WHERE state = 'sending'"
)


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database.connect(settings_for(database_url), name="tests")
    yield database
    await database.close()


@pytest_asyncio.fixture
async def server() -> AsyncIterator[ScriptedSmtp]:
    async with ScriptedSmtp() as running:
        yield running


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer(Links("https://app.example.org"))


class Notifiers:
    """Two of them, and one person who is to be told that a task is overdue."""

    def __init__(self, database: Database, renderer: Renderer, server: ScriptedSmtp) -> None:
        self.town = Town(database)
        self.first, self.second = Rooms(database, renderer), Rooms(database, renderer)
        self._server = server

    async def plan(self) -> None:
        """The mailing is planned, and both have somebody who sends."""
        await self.town.late_people(1)
        await self.first.plan()
        for rooms in (self.first, self.second):
            rooms.hires_sender(self._server, pool_size=1)

    async def leases_run_out(self) -> None:
        """A sweeper finds the row with its lease over, whether or not its owner still lives."""
        await self.town.execute(TIME_PASSES)
        await self.second.sweeper().sweep()

    async def close(self) -> None:
        """Ends both."""
        for rooms in (self.first, self.second):
            await rooms.close()


@pytest_asyncio.fixture
async def notifiers(database: Database, renderer: Renderer, server: ScriptedSmtp) -> AsyncIterator[Notifiers]:
    notifiers = Notifiers(database, renderer, server)
    yield notifiers
    server.release()
    await notifiers.close()


@fenced
async def test_the_unique_key_keeps_a_second_mailing_of_the_period_from_mailing_anybody(
    fence: bool, notifiers: Notifiers, server: ScriptedSmtp, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not fence:
        await fences.without_unique_key(database, notifiers.first.planner._planning, monkeypatch)
    await notifiers.plan()
    await notifiers.first.plan(message_id="another")
    await notifiers.first.send()
    assert len(server.accepted) == (1 if fence else 2)


@fenced
async def test_the_data_marker_tells_a_mail_that_may_have_been_taken_from_one_that_was_not(
    fence: bool, notifiers: Notifiers, server: ScriptedSmtp, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not fence:
        fences.without_data_marker(monkeypatch)
    await notifiers.plan()
    server.rule("DOT", accept=True, hold=True, times=1)
    stalled = asyncio.create_task(notifiers.first.send())
    await server.until(lambda: len(server.accepted) == 1)
    await notifiers.leases_run_out()
    await notifiers.second.send()
    row = await notifiers.town.delivery()
    assert {mail.message_id for mail in server.accepted} == {row["mail_message_id"]}
    uncounted = len(server.accepted) - 1 - row["resends"]
    assert uncounted == (0 if fence else 1), "sent again as if it had never gone"
    server.release()
    await stalled


@fenced
async def test_the_claim_token_keeps_one_that_lost_its_row_from_sending_it(
    fence: bool, notifiers: Notifiers, server: ScriptedSmtp, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not fence:
        fences.without_claim_token(monkeypatch)
    await notifiers.plan()
    asleep = server.rule("RCPT", hold=True, connection=1)
    awake = server.rule("RCPT", hold=True, connection=2)
    first = asyncio.create_task(notifiers.first.send())
    await server.until(lambda: asleep.seen == 1)
    await notifiers.leases_run_out()
    second = asyncio.create_task(notifiers.second.send())
    await server.until(lambda: awake.seen == 1)
    server.release(asleep)
    await first
    server.release(awake)
    await second
    await notifiers.town.execute("UPDATE taskbell.delivery SET next_attempt_at = now() WHERE ended_at IS NULL")
    await notifiers.second.send()
    assert (await notifiers.town.delivery())["state"] == "sent"
    assert len(server.accepted) == (1 if fence else 2)


@fenced
async def test_the_confirm_keeps_a_message_that_never_arrived_from_being_taken_for_published(
    fence: bool, database: Database, vhost: Vhost
) -> None:
    outbox, health, stop = Outbox("app"), Health(), asyncio.Event()
    gate = Gate("postgresql", database.ping, health)
    async with Proxy(vhost.url) as proxy:
        publisher = (Publisher if fence else fences.Unconfirmed)(proxy.url, name="fences", timeout=1)
        relay = Relay(database, publisher, outbox, gate=gate, health=health, metrics=Metrics())
        running = [asyncio.create_task(part.run(stop)) for part in (gate, relay)]
        await eventually(lambda: health.ready, what="the relay's connection")
        proxy.hold()
        town = Town(database)
        await town.execute(
            "INSERT INTO taskbell.outbox (owner, routing_key, body, message_id)"
            " SELECT 'app', 'overdue.due', '{}', 'm-' || n FROM generate_series(1, 5) AS n"
        )
        outbox.written.set()
        await proxy.held.wait()
        waiting = "SELECT count(*) FROM taskbell.outbox WHERE published_at IS NULL"
        if not fence:
            await eventually(lambda: _is(town, waiting, 0))
        proxy.cut()  # what it holds is gone with the connection
        proxy.release()
        await eventually(lambda: _is(town, waiting, 0), what="all published")
        stop.set()
        await asyncio.gather(*running)
        await publisher.close()
    arrived = {message.properties["message_id"] for message in await vhost.management.take("notifier.overdue_due")}
    assert len(arrived) == (5 if fence else 0)


async def _is(town: Town, question: str, answer: int) -> bool:
    return bool(await town.value(question) == answer)


class Twice(Shop):
    """Two deliveries of one command at once, of which each lets the other come as far as it can."""

    begun = 0

    async def apply(self, transaction: Transaction, commands: Sequence[Command]) -> Sequence[Outcome]:
        outcomes = await super().apply(transaction, commands)
        self.begun += 1
        await eventually(self._both_are_as_far_as_they_can)
        return outcomes

    async def _both_are_as_far_as_they_can(self) -> bool:
        async with self.database.transaction() as tx:
            waiting = await tx.value(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
        return self.begun == 2 or waiting == 1


@fenced
async def test_the_command_key_keeps_a_command_that_is_delivered_twice_at_once_from_taking_effect_twice(
    fence: bool, database: Database, broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not fence:
        await fences.without_command_key(database, monkeypatch)
    shop = Twice(database, Publisher(broker_url, name="fences"))
    await asyncio.gather(shop.run(command(7)), shop.run(command(7)))
    await shop.replies.close()
    assert await shop.effects() == (["7"] if fence else ["7", "7"])


@fenced
async def test_the_occurrence_key_keeps_what_was_published_from_being_published_again(
    fence: bool, database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = VirtualClock(database_url)
    await clock.install()
    own = Database.connect(settings_for(database_url), name="its clock")
    try:
        world = World(database_url, own, clock)
        if not fence:
            await fences.without_occurrence_key(own, monkeypatch)
        scheduler = world.scheduler(MINUTELY)
        for minute in (0, 1, 2):
            await world.at(f"2026-11-20T08:0{minute}:30")
            await world.turn(scheduler)
        assert len(await world.messages()) == 2
        # What was published long ago is pruned: the occurrences alone remember it.
        await world.sql("DELETE FROM taskbell.outbox")
        await world.sql("UPDATE taskbell.schedule_state SET position = position - interval '1 minute'")
        await world.turn(scheduler, world.scheduler(MINUTELY))
        assert (len(await world.messages()) == 0) == fence
    finally:
        await own.close()
        await clock.close()
