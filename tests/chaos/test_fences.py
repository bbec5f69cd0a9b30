"""The ledger's fences: with each of them an attack does no harm, and without it the same attack does.

The second half is the proof that the first would notice: a fence that somebody removes fails a test here.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from taskbell.contracts import OverdueDue
from taskbell.database import Database
from taskbell_notifier.mail.links import Links
from taskbell_notifier.mail.render import Renderer
from tests.chaos.support import fences
from tests.integration.notifier.ledger.notifier_parts import NotifierParts
from tests.integration.notifier.ledger.support import NotifierTables, settings_for
from tests.support.kinds import KINDS
from tests.support.scripted_smtp import ScriptedSmtp
from tests.support.waiting import eventually

MakeParts = Callable[[], NotifierParts]


@pytest_asyncio.fixture
async def tables(database_url: str) -> AsyncIterator[NotifierTables]:
    database = Database.connect(settings_for(database_url), name="fences")
    yield NotifierTables(database)
    await database.close()


@pytest_asyncio.fixture
async def server() -> AsyncIterator[ScriptedSmtp]:
    async with ScriptedSmtp() as running:
        yield running


@pytest_asyncio.fixture
async def make_parts(tables: NotifierTables, server: ScriptedSmtp) -> AsyncIterator[MakeParts]:
    """Notifiers with a sender each, closed after the test."""
    made: list[NotifierParts] = []
    renderer = Renderer(KINDS, Links("https://app.example.org"))

    def make() -> NotifierParts:
        made.append(NotifierParts(tables.database, renderer))
        made[-1].add_sender(server)
        return made[-1]

    yield make
    for parts in made:
        await parts.close()


def mails(server: ScriptedSmtp) -> dict[str, int]:
    """How often the server took each Message-ID's mail to each address."""
    return dict(Counter(mail.recipients[0] for mail in server.accepted))


async def sweep(tables: NotifierTables, parts: NotifierParts) -> None:
    """Every open row is looked at, as if its time had come, and is due at once."""
    await tables.execute("UPDATE taskbell.delivery SET due_at = now() WHERE ended_at IS NULL")
    await parts.sweeper().sweep()
    await tables.execute("UPDATE taskbell.delivery SET next_attempt_at = now() WHERE ended_at IS NULL")


async def leases_run_out(tables: NotifierTables) -> None:
    await tables.execute(
        "UPDATE taskbell.delivery SET lease_until = now() - interval '1 second' WHERE state = 'sending'"
    )


# --- unique key


async def two_events_of_one_period(
    tables: NotifierTables, make_parts: MakeParts, server: ScriptedSmtp
) -> dict[str, int]:
    """One day's alert is asked for under two message_ids, planned by two notifiers at once, and sent."""
    several = [make_parts(), make_parts()]
    await tables.late_people(1, 2, 3)
    await asyncio.gather(*(parts.plan(OverdueDue(), f"m{n}") for n, parts in enumerate(several)))
    await asyncio.gather(*(parts.send() for parts in several))
    return mails(server)


async def test_two_events_of_one_period_mail_everybody_once(
    tables: NotifierTables, make_parts: MakeParts, server: ScriptedSmtp
) -> None:
    taken = await two_events_of_one_period(tables, make_parts, server)
    assert taken == {f"user{n}@example.org": 1 for n in (1, 2, 3)}


async def test_without_the_unique_key_they_mail_everybody_twice(
    tables: NotifierTables, make_parts: MakeParts, server: ScriptedSmtp, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fences.take_out_unique_key(tables.database, monkeypatch)
    taken = await two_events_of_one_period(tables, make_parts, server)
    assert taken == {f"user{n}@example.org": 2 for n in (1, 2, 3)}


# --- data marker

DEATHS = 3


async def deaths_after_acceptance(
    tables: NotifierTables, make_parts: MakeParts, server: ScriptedSmtp
) -> tuple[int, int]:
    """Again and again a notifier dies when the server has taken the mail, before it has heard or written that.

    Returns:
        how often the server took the mail, and how many resends the ledger owns up to.
    """
    await tables.late_people(1)
    server.rule("DOT", hold=True, accept=True, times=DEATHS)
    survivor = make_parts()
    await survivor.plan()
    for _ in range(DEATHS):
        parts = make_parts()
        batch = asyncio.create_task(parts.send())
        await eventually(taken_or_refused(server, len(server.accepted), batch))
        die(parts)
        await asyncio.wait({batch})
        await leases_run_out(tables)
        await sweep(tables, survivor)
    await survivor.send()
    return len(server.accepted), (await tables.delivery())["resends"]


def taken_or_refused(server: ScriptedSmtp, before: int, batch: "asyncio.Task[None]") -> Callable[[], bool]:
    """Has the server another mail, or had the batch nothing that it may send?"""
    return lambda: len(server.accepted) > before or batch.done()


def die(parts: NotifierParts) -> None:
    """What a notifier is sending breaks off where it is, and nothing more is written of it."""
    for batch in list(parts.sender._batches):
        batch.cancel()


async def test_deaths_after_acceptance_cost_one_counted_resend(
    tables: NotifierTables, make_parts: MakeParts, server: ScriptedSmtp
) -> None:
    assert await deaths_after_acceptance(tables, make_parts, server) == (2, 1)
    row = await tables.delivery()
    assert (row["state"], row["reason"]) == ("failed", "outcome unknown; resend: cut off after the data had begun")


async def test_without_the_data_marker_each_death_costs_another_mail_that_nobody_counts(
    tables: NotifierTables, make_parts: MakeParts, server: ScriptedSmtp, monkeypatch: pytest.MonkeyPatch
) -> None:
    fences.take_out_data_marker(monkeypatch)
    assert await deaths_after_acceptance(tables, make_parts, server) == (DEATHS + 1, 0)


# --- claim token


async def stalled_sender_wakes(
    tables: NotifierTables, make_parts: MakeParts, server: ScriptedSmtp, other_at: str
) -> int:
    """A sender stalls before the data until another has its row and got as far as `other_at`; then it wakes.

    Returns:
        how often the server took the mail; nobody dies in this story.
    """
    await tables.late_people(1)
    stalled, other = make_parts(), make_parts()
    await stalled.plan()
    stall = server.rule("RCPT", hold=True, connection=1)
    hold = server.rule(other_at, hold=True, connection=2)
    first = asyncio.create_task(stalled.send())
    await server.until(lambda: stall.seen == 1)
    await leases_run_out(tables)
    await sweep(tables, other)
    second = asyncio.create_task(other.send())
    await server.until(lambda: hold.seen == 1)
    server.release(stall)
    await first
    await stalled.send()
    server.release(hold)
    await second
    await sweep(tables, other)
    await other.send()
    return len(server.accepted)


@pytest.mark.parametrize("other_at", ["RCPT", "DOT"])
async def test_a_stalled_sender_that_wakes_sends_nothing_and_spoils_nothing(
    tables: NotifierTables, make_parts: MakeParts, server: ScriptedSmtp, other_at: str
) -> None:
    assert await stalled_sender_wakes(tables, make_parts, server, other_at) == 1
    row = await tables.delivery()
    assert (row["state"], row["resends"], row["cut_offs"]) == ("sent", 0, 1)


@pytest.mark.parametrize(
    ("take_out", "other_at"),
    [(fences.take_out_claim_of_marker, "RCPT"), (fences.take_out_claim_of_outcome, "DOT")],
)
async def test_without_the_claim_token_it_mails_the_same_person_again(
    tables: NotifierTables,
    make_parts: MakeParts,
    server: ScriptedSmtp,
    monkeypatch: pytest.MonkeyPatch,
    take_out: Callable[[pytest.MonkeyPatch], None],
    other_at: str,
) -> None:
    take_out(monkeypatch)
    assert await stalled_sender_wakes(tables, make_parts, server, other_at) == 2
    assert (await tables.delivery())["resends"] == 0


# --- lease


async def sweep_while_sending(tables: NotifierTables, make_parts: MakeParts, server: ScriptedSmtp) -> int:
    """Another notifier sweeps, and sends what it may, while a living one waits for the server's last word.

    Returns:
        how often the server took the mail.
    """
    await tables.late_people(1)
    sending, other = make_parts(), make_parts()
    await sending.plan()
    hold = server.rule("DOT", hold=True, accept=True, times=1)
    first = asyncio.create_task(sending.send())
    await server.until(lambda: hold.seen == 1)
    await sweep(tables, other)
    await other.send()
    server.release(hold)
    await first
    return len(server.accepted)


async def test_while_its_lease_lasts_a_senders_row_is_nobody_elses(
    tables: NotifierTables, make_parts: MakeParts, server: ScriptedSmtp
) -> None:
    assert await sweep_while_sending(tables, make_parts, server) == 1
    assert (await tables.delivery())["state"] == "sent"


async def test_without_the_lease_it_is_taken_from_a_sender_that_lives_and_mailed_twice(
    tables: NotifierTables, make_parts: MakeParts, server: ScriptedSmtp, monkeypatch: pytest.MonkeyPatch
) -> None:
    fences.take_out_lease(monkeypatch)
    assert await sweep_while_sending(tables, make_parts, server) == 2
