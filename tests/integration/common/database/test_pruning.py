"""Rows that ended long ago go, in bounded batches; each is deleted by exactly one service."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest
import pytest_asyncio
from tests.support.probes import ping
from tests.support.waiting import eventually

from taskbell import pruning
from taskbell.contracts import CATALOGUE, Message
from taskbell.database import Database
from taskbell.gate import Gate
from taskbell.health import Health
from taskbell.pruning import EndedRows, Pruner, commands_of
from taskbell.settings import DatabaseAccess, load
from taskbell_maintenance import app as maintenance
from taskbell_notifier import app as notifier
from taskbell_scheduler import app as scheduler

SERVICES = {"scheduler": scheduler, "notifier": notifier, "maintenance": maintenance}
OCCURRENCES = EndedRows("taskbell.occurrence", "schedule, zone, key", "recorded_at", kept=timedelta(days=2))


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database.connect(load(DatabaseAccess, database_url=database_url), name="test pruning")
    yield database
    await database.close()


def pruner(database: Database, *tables: EndedRows) -> Pruner:
    gate = Gate("postgresql", partial(ping, database), Health())
    gate.open()
    return Pruner(database, gate, tables)


async def occurrences(database: Database, count: int, days: int) -> None:
    async with database.transaction() as transaction:
        await transaction.execute(
            "INSERT INTO taskbell.occurrence (schedule, zone, key, at, status, recorded_at)"
            " SELECT 'a', 'UTC', CAST(:days AS int) || ' ' || n, now(), 'missed',"
            " now() - make_interval(days => CAST(:days AS int))"
            " FROM generate_series(1, :count) AS n",
            {"count": count, "days": days},
        )


async def left(database: Database) -> list[str]:
    async with database.transaction() as transaction:
        rows = await transaction.rows("SELECT key FROM taskbell.occurrence ORDER BY recorded_at, key")
    return [row.key for row in rows]


async def test_what_ended_longer_ago_than_it_is_kept_goes_batch_after_batch(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "BATCH", 2)
    await occurrences(database, 5, days=3)
    await occurrences(database, 1, days=1)
    await pruner(database, OCCURRENCES).prune(asyncio.Event())
    assert await left(database) == ["1 1"]


async def test_a_batch_is_bounded_and_takes_the_oldest_and_none_follows_a_stop(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "BATCH", 2)
    stop = asyncio.Event()
    monkeypatch.setattr(pruning, "first_of", _stops(stop))  # between the first two batches
    await occurrences(database, 2, days=3)
    await occurrences(database, 2, days=9)
    await pruner(database, OCCURRENCES).prune(stop)
    assert await left(database) == ["3 1", "3 2"]


def _stops(stop: asyncio.Event) -> object:
    async def first_of(*work: object, timeout: float) -> None:
        for it in work:
            it.close()  # type: ignore[attr-defined]
        stop.set()

    return first_of


async def test_a_row_that_somebody_has_locked_is_passed_by(database: Database) -> None:
    await occurrences(database, 2, days=3)
    async with database.transaction() as transaction:
        await transaction.value("SELECT key FROM taskbell.occurrence WHERE key = '3 1' FOR UPDATE")
        await asyncio.wait_for(pruner(database, OCCURRENCES).prune(asyncio.Event()), 20)
    assert await left(database) == ["3 1"]


async def test_it_prunes_at_the_start_and_again_when_an_hour_has_passed(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "EVERY", 0.05)
    stop = asyncio.Event()
    await occurrences(database, 1, days=3)
    running = asyncio.create_task(pruner(database, OCCURRENCES).run(stop))

    async def nothing_is_left() -> bool:
        return not await left(database)

    await eventually(nothing_is_left)
    await occurrences(database, 1, days=3)
    await eventually(nothing_is_left)
    stop.set()
    await asyncio.wait_for(running, 20)


async def pruned_by(database: Database, tables: Sequence[EndedRows], keys: Sequence[str]) -> list[str]:
    """Those of old outcomes of commands with these routing keys that a service with these tables deletes."""
    async with database.transaction() as transaction:
        await transaction.execute("TRUNCATE taskbell.command")
        await transaction.execute(
            "INSERT INTO taskbell.command (message_id, routing_key, state, finished_at)"
            " SELECT key, key, 'done', now() - interval '91 days' FROM unnest(CAST(:keys AS text[])) AS key",
            {"keys": keys},
        )
    await pruner(database, *tables).prune(asyncio.Event())
    async with database.transaction() as transaction:
        rows = await transaction.rows("SELECT message_id FROM taskbell.command")
    return sorted(set(keys).difference(row.message_id for row in rows))


async def test_a_commands_outcome_is_pruned_by_the_service_that_consumes_it_and_by_no_other(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_new_one = replace(CATALOGUE["notifier.send_test_mail"], routing_key="notifier.send_another")
    of_nobody = replace(a_new_one, routing_key="notifier.of_nobody", consumer=None)
    catalogue: Mapping[str, Message] = {**CATALOGUE, **{it.routing_key: it for it in (a_new_one, of_nobody)}}
    monkeypatch.setattr(pruning, "catalogue", lambda: catalogue)
    commands = [it for it in catalogue.values() if it.kind == "command"]
    keys = [it.routing_key for it in commands] + ["notifier.removed", "billing.of_a_removed_package", ""]
    found = {name: await pruned_by(database, service.ended_rows(), keys) for name, service in SERVICES.items()}
    assert found == {
        "scheduler": [],
        "notifier": sorted(it.routing_key for it in commands if it.consumer == "notifier"),
        "maintenance": sorted(
            [it.routing_key for it in commands if it.consumer in ("maintenance", None)]
            + ["notifier.removed", "billing.of_a_removed_package", ""]
        ),
    }


async def test_a_service_that_has_no_commands_prunes_none(database: Database) -> None:
    assert await pruned_by(database, [commands_of("billing")], ["notifier.send_test_mail", "unknown"]) == []


async def test_a_published_message_is_pruned_by_the_service_that_relays_it(database: Database) -> None:
    for name, service in SERVICES.items():
        async with database.transaction() as transaction:
            await transaction.execute("TRUNCATE taskbell.outbox")
            await transaction.execute("""
                INSERT INTO taskbell.outbox (owner, routing_key, body, message_id, created_at, published_at)
                SELECT owner, 'report.generated', '{}', owner || ' ' || coalesce(days::text, 'waiting'),
                    now() - interval '200 days', now() - days * interval '1 day'
                FROM unnest(ARRAY['maintenance', 'app', 'scheduler', 'notifier']) AS owner,
                    unnest(ARRAY[6, 8, 89, 91, NULL]) AS days
            """)
            before = {row.message_id for row in await transaction.rows("SELECT message_id FROM taskbell.outbox")}
        await pruner(database, *service.ended_rows()).prune(asyncio.Event())
        async with database.transaction() as transaction:
            after = {row.message_id for row in await transaction.rows("SELECT message_id FROM taskbell.outbox")}
        of_app = {"app 8", "app 89", "app 91"} if name == "maintenance" else set()
        assert before - after == {f"{name} 91"} | of_app
