"""Claims, markers and outcomes of senders: what one may write, and what stands in its way."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
from sqlalchemy.exc import DBAPIError
from tests.integration.notifier.ledger.notifier_parts import NotifierParts, planned
from tests.integration.notifier.ledger.support import NotifierTables, settings_for
from tests.support.scripted_smtp import ScriptedSmtp
from tests.support.waiting import eventually

from taskbell.database import Database, Transaction
from taskbell.errors import DatabaseUnavailable
from taskbell_notifier.delivery import ledger, sender
from taskbell_notifier.kinds.table import OWN
from taskbell_notifier.lifecycle import Claimed, returned
from taskbell_notifier.repository import deliveries


@asynccontextmanager
async def locked(database_url: str, *recipients: str) -> AsyncIterator[None]:
    """Somebody has these people's rows locked, as a sweeper has those it looks at."""
    somebody = await asyncpg.connect(database_url)
    try:
        async with somebody.transaction():
            await somebody.fetch("SELECT FROM taskbell.delivery WHERE recipient = ANY($1) FOR UPDATE", recipients)
            yield
    finally:
        await somebody.close()


async def test_two_senders_with_the_same_message_send_each_mail_once(
    tables: NotifierTables, make_parts: Callable[..., NotifierParts], server: ScriptedSmtp
) -> None:
    one, other = make_parts(), make_parts()
    await planned(tables, one, server, *range(1, 41))
    other.add_sender(server)
    await asyncio.gather(one.send(), other.send(), one.send(), other.send())
    assert len(server.accepted) == 40
    assert len({mail.recipients for mail in server.accepted}) == 40
    assert set((await tables.states()).values()) == {"sent"}


@pytest.mark.parametrize("kind", [kind.name for kind in OWN])
async def test_a_row_has_one_message_id_for_ever_in_this_form(
    tables: NotifierTables, parts: NotifierParts, server: ScriptedSmtp, kind: str
) -> None:
    await planned(tables, parts, server)
    await tables.execute("UPDATE taskbell.delivery SET kind = :kind", kind=kind)
    row_before = await tables.delivery()
    number, token = row_before["id"], row_before["message_token"]
    for domain in ("tasks.example.org", "moved.example.org"):
        async with parts.database.transaction() as tx:
            (row,) = await deliveries.claim(tx, [number], lease=timedelta(minutes=1), domain=domain, hold=False)
        assert row.message_id == f"<{kind}.{number}.{token}@tasks.example.org>"
        await tables.execute("UPDATE taskbell.delivery SET state = 'retry', claim = NULL, next_attempt_at = now()")


@pytest.mark.parametrize("phase", ["envelope", "data"])
async def test_what_one_process_has_claimed_no_other_claims(
    tables: NotifierTables, make_parts: Callable[..., NotifierParts], server: ScriptedSmtp, phase: str
) -> None:
    one, other = make_parts(), make_parts()
    await planned(tables, one, server)
    other.add_sender(server)
    ids = [(await tables.delivery())["id"]]
    assert len(await one.ledger.claim(ids)) == 1
    await tables.execute("UPDATE taskbell.delivery SET phase = :phase, lease_until = now()", phase=phase)
    assert await other.ledger.claim(ids) == []


async def test_rows_that_somebody_looks_at_just_then_are_sent_by_the_same_message(
    tables: NotifierTables, parts: NotifierParts, server: ScriptedSmtp, database_url: str
) -> None:
    await planned(tables, parts, server, 1, 2, 3)
    async with locked(database_url, "user:2", "user:3"):
        sending = asyncio.create_task(parts.send())
        await eventually(lambda: len(server.accepted) == 1)
        assert not sending.done()
    await sending
    assert sorted(mail.recipients for mail in server.accepted) == [(f"user{n}@example.org",) for n in (1, 2, 3)]
    assert set((await tables.states()).values()) == {"sent"}


async def test_rows_that_stay_locked_are_left_to_the_sweeper(
    tables: NotifierTables,
    parts: NotifierParts,
    server: ScriptedSmtp,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sender, "LOCKED_PAUSES", (0.01, 0.01))
    await planned(tables, parts, server, 1, 2)
    async with locked(database_url, "user:2"):
        await parts.send()
        assert await tables.states() == {"user:1": "sent", "user:2": "planned"}


async def test_rows_that_nobody_may_send_now_are_asked_for_once(
    tables: NotifierTables, parts: NotifierParts, server: ScriptedSmtp, monkeypatch: pytest.MonkeyPatch
) -> None:
    await planned(tables, parts, server, 1, 2)
    await tables.execute(
        "UPDATE taskbell.delivery SET state = 'retry', next_attempt_at = now() + interval '1 hour'"
        " WHERE recipient = 'user:2'"
    )
    asked: list[Any] = []
    claim = parts.ledger.claim

    async def counted(ids: Any) -> Any:
        asked.append(ids)
        return await claim(ids)

    monkeypatch.setattr(parts.ledger, "claim", counted)
    await parts.send()
    assert len(asked) == 1
    assert await tables.states() == {"user:1": "sent", "user:2": "retry"}


async def test_a_row_whose_claim_was_lost_before_the_data_is_not_sent(
    tables: NotifierTables, parts: NotifierParts, server: ScriptedSmtp
) -> None:
    await planned(tables, parts, server)
    server.rule("RCPT", hold=True)
    sending = asyncio.create_task(parts.send())
    await server.until(lambda: any("RCPT" in connection.verbs for connection in server.connections))
    # Another process judged it and took it: as after a stall that outlasted the lease.
    await tables.execute("UPDATE taskbell.delivery SET claim = gen_random_uuid()")
    server.clear()
    await sending
    assert server.accepted == []
    assert all(connection.messages == 0 for connection in server.connections)
    assert (await tables.delivery())["state"] == "sending"


async def test_a_row_whose_lease_ran_out_before_the_data_is_not_sent(
    tables: NotifierTables, parts: NotifierParts, server: ScriptedSmtp
) -> None:
    await planned(tables, parts, server)
    server.rule("RCPT", hold=True)
    sending = asyncio.create_task(parts.send())
    await server.until(lambda: any("RCPT" in connection.verbs for connection in server.connections))
    await tables.execute("UPDATE taskbell.delivery SET lease_until = now() - interval '1 second'")
    server.clear()
    await sending
    assert server.accepted == []
    row = await tables.delivery()
    assert (row["state"], row["attempts"]) == ("planned", 0)


async def test_a_mail_that_expires_while_the_server_hesitates_is_not_sent(
    tables: NotifierTables, parts: NotifierParts, server: ScriptedSmtp
) -> None:
    await planned(tables, parts, server)
    server.rule("RCPT", hold=True)
    sending = asyncio.create_task(parts.send())
    await server.until(lambda: any("RCPT" in connection.verbs for connection in server.connections))
    await tables.execute("UPDATE taskbell.delivery SET expires_at = now()")
    server.clear()
    await sending
    assert server.accepted == []


async def test_without_a_committed_marker_no_byte_of_the_message_goes(
    tables: NotifierTables, parts: NotifierParts, server: ScriptedSmtp, monkeypatch: pytest.MonkeyPatch
) -> None:
    await planned(tables, parts, server)
    await parts.open_gate()

    real = deliveries.write

    async def away_for_marks(tx: Transaction, marks: Any, changes: Any, **lease: Any) -> Any:
        if marks:
            raise DatabaseUnavailable("gone")
        return await real(tx, marks, changes, **lease)

    monkeypatch.setattr(deliveries, "write", away_for_marks)
    await parts.send()
    assert server.accepted == []
    row = await tables.delivery()
    assert (row["state"], row["attempts"]) == ("planned", 0)


async def test_the_marker_is_committed_before_the_message_is_on_its_way(
    tables: NotifierTables, parts: NotifierParts, server: ScriptedSmtp
) -> None:
    await planned(tables, parts, server)
    server.rule("BODY", hold=True)
    sending = asyncio.create_task(parts.send())
    await server.until(lambda: any("DATA" in connection.verbs for connection in server.connections))

    async def marked() -> bool:
        row = await tables.delivery()
        return bool(row["phase"] == "data" and row["lease_until"] > tables.now + timedelta(minutes=10))

    await eventually(marked)
    server.clear()
    await sending
    assert (await tables.delivery())["state"] == "sent"


async def test_an_outcome_that_cannot_be_written_is_written_when_postgresql_is_back(
    tables: NotifierTables, parts: NotifierParts, server: ScriptedSmtp, monkeypatch: pytest.MonkeyPatch
) -> None:
    await planned(tables, parts, server)
    await parts.open_gate()
    real, tries = deliveries.write, []

    async def away_twice(tx: Transaction, marks: Any, changes: Any, **lease: Any) -> Any:
        if changes:
            tries.append(changes)
            if len(tries) < 3:
                raise DatabaseUnavailable("gone")
        return await real(tx, marks, changes, **lease)

    monkeypatch.setattr(deliveries, "write", away_twice)
    await parts.send()
    assert (await tables.delivery())["state"] == "sent"
    assert len(server.accepted) == 1


async def test_an_outcome_whose_row_is_locked_for_longer_than_a_statement_may_take_is_written_after_it(
    tables: NotifierTables,
    parts: NotifierParts,
    server: ScriptedSmtp,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parts.database = Database.connect(settings_for(database_url), name="impatient", statement_timeout=0.5)
    await planned(tables, parts, server)
    monkeypatch.setattr(ledger, "PAUSE", 0.01)
    real, tries = deliveries.write, []

    async def counted(*given: Any, **lease: Any) -> Any:
        tries.append(given)
        return await real(*given, **lease)

    monkeypatch.setattr(deliveries, "write", counted)
    server.rule("DOT", hold=True)
    sending = asyncio.create_task(parts.send())
    await server.until(lambda: any(connection.messages for connection in server.connections))
    somebody = await asyncpg.connect(database_url)
    try:
        async with somebody.transaction():
            await somebody.execute("LOCK TABLE taskbell.delivery IN SHARE MODE")  # as CREATE INDEX does
            server.clear()
            await eventually(lambda: len(tries) >= 4)  # the marker's is one of them
    finally:
        await somebody.close()
    await sending
    await parts.database.close()
    row = await tables.delivery()
    assert (row["state"], row["resends"]) == ("sent", 0)
    assert len(server.accepted) == 1


async def test_a_marker_does_not_wait_for_others_whose_rows_somebody_has_locked(
    tables: NotifierTables, parts: NotifierParts, server: ScriptedSmtp, database_url: str
) -> None:
    parts.database = Database.connect(settings_for(database_url), name="impatient", statement_timeout=0.5)
    await planned(tables, parts, server, 1, 2, 3)
    found = await tables.deliveries()
    rows = await parts.ledger.claim([found[f"user:{number}"]["id"] for number in (1, 2, 3)])
    rows = sorted(rows, key=lambda row: row.user_id or 0)
    async with locked(database_url, "user:2", "user:3"):
        markers = [asyncio.create_task(parts.ledger.mark_data(row)) for row in rows]
        assert await markers[0] is True
        assert not markers[2].done(), "it was answered with the last of them, and its lease ran meanwhile"
        refused = await asyncio.gather(*markers[1:], return_exceptions=True)
    assert [type(error) for error in refused] == [DBAPIError, DBAPIError]
    await parts.database.close()


async def test_an_outcome_that_comes_after_the_row_was_called_unknown_still_counts(
    tables: NotifierTables, parts: NotifierParts, server: ScriptedSmtp
) -> None:
    await planned(tables, parts, server)
    server.rule("DOT", hold=True)
    sending = asyncio.create_task(parts.send())
    await server.until(lambda: any(connection.messages for connection in server.connections))
    await tables.execute("UPDATE taskbell.delivery SET lease_until = now(), due_at = now()")
    await parts.sweeper().sweep()
    assert (await tables.delivery())["state"] == "unknown"
    server.clear()
    await sending
    row = await tables.delivery()
    assert (row["state"], row["resends"]) == ("sent", 0)


async def test_the_late_end_of_a_lost_claim_leaves_a_newer_one_of_the_same_process_its_lease(
    tables: NotifierTables, parts: NotifierParts, server: ScriptedSmtp, monkeypatch: pytest.MonkeyPatch
) -> None:
    await planned(tables, parts, server)
    ids = [(await tables.delivery())["id"]]
    (lost,) = await parts.ledger.claim(ids)
    await tables.execute("UPDATE taskbell.delivery SET state = 'planned', claim = NULL")  # swept while it stalled
    (newer,) = await parts.ledger.claim(ids)
    assert not await parts.ledger.record(returned(lost, "not allowed to send"))
    renewed: list[Claimed] = []

    async def renew(_: Transaction, held: Iterable[Claimed], **__: Any) -> None:
        renewed.extend(held)

    monkeypatch.setattr(deliveries, "renew", renew)
    monkeypatch.setattr(parts.ledger, "_lease", timedelta(0))
    await parts.open_gate()
    stop = asyncio.Event()
    running = asyncio.create_task(parts.ledger.run(stop))
    await eventually(lambda: renewed)
    stop.set()
    await running
    assert renewed[0] == newer
