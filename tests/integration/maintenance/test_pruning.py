"""The service's own ended rows go when they are old enough; everything else stays."""

import asyncio
from collections.abc import AsyncIterator

import pytest_asyncio
from tests.integration.maintenance.use_cases import Maintenance

from taskbell.gate import Gate
from taskbell.health import Health
from taskbell_maintenance.pruning import Pruner
from taskbell_maintenance.repository.own_rows import OwnRows


@pytest_asyncio.fixture
async def pruner(maintenance: Maintenance) -> AsyncIterator[Pruner]:
    yield Pruner(OwnRows(maintenance.database), Gate("postgresql", maintenance.database.ping, Health()))


async def test_outcomes_are_kept_for_90_days(maintenance: Maintenance, pruner: Pruner) -> None:
    await maintenance.execute("""
        INSERT INTO taskbell.command (message_id, routing_key, state, finished_at) VALUES
            ('old', 'maintenance.update_task_status', 'done', now() - interval '90 days 1 minute'),
            ('old and odd', 'somewhere', 'rejected', now() - interval '91 days'),
            ('young', 'maintenance.update_task_status', 'failed', now() - interval '89 days'),
            ('the notifier''s', 'notifier.send_test_mail', 'done', now() - interval '99 days')
    """)
    await pruner.prune(asyncio.Event())
    left = await maintenance.rows("SELECT message_id FROM taskbell.command ORDER BY message_id")
    assert [row["message_id"] for row in left] == ["the notifier's", "young"]


async def test_messages_are_kept_for_90_days_once_published_and_the_apps_for_7(
    maintenance: Maintenance, pruner: Pruner
) -> None:
    await maintenance.execute("""
        INSERT INTO taskbell.outbox (owner, routing_key, body, message_id, created_at, published_at)
        SELECT owner, 'report.generated', '{}', owner || ' ' || coalesce(days::text, 'waiting'),
            now() - interval '200 days', now() - days * interval '1 day'
        FROM unnest(ARRAY['maintenance', 'app', 'scheduler', 'notifier']) AS owner,
            unnest(ARRAY[6, 8, 89, 91, NULL]) AS days
    """)
    await pruner.prune(asyncio.Event())
    left = {row["message_id"] for row in await maintenance.rows("SELECT message_id FROM taskbell.outbox")}
    assert {name for name in left if name.startswith("maintenance")} == {
        "maintenance 6",
        "maintenance 8",
        "maintenance 89",
        "maintenance waiting",
    }
    assert {name for name in left if name.startswith("app")} == {"app 6", "app waiting"}
    assert len(left) == 4 + 2 + 5 + 5


async def test_it_goes_on_until_nothing_is_old(maintenance: Maintenance, pruner: Pruner) -> None:
    await maintenance.execute("""
        INSERT INTO taskbell.command (message_id, routing_key, state, finished_at)
        SELECT i::text, 'maintenance.cleanup_completed_tasks', 'done', now() - interval '91 days'
        FROM generate_series(1, 2500) AS i
    """)
    await pruner.prune(asyncio.Event())
    assert await maintenance.value("SELECT count(*) FROM taskbell.command") == 0


async def test_reports_and_archived_tasks_are_kept_for_ever(maintenance: Maintenance, pruner: Pruner) -> None:
    await maintenance.done(31)
    await maintenance.clean_up()
    await maintenance.report()
    await maintenance.execute("""
        UPDATE taskbell.report SET date = '1990-01-01', generated_at = '1990-01-01', as_of = '1990-01-01';
        UPDATE taskbell.archive_batch SET started_at = '1990-01-01', finished_at = '1990-01-01';
        UPDATE taskbell.archived_task SET archived_at = '1990-01-01', restored_at = '1990-01-01';
    """)
    await pruner.prune(asyncio.Event())
    for table in ("report", "archive_batch", "archived_task"):
        assert await maintenance.value(f"SELECT count(*) FROM taskbell.{table}") == 1


async def test_it_stops_between_two_batches(maintenance: Maintenance, pruner: Pruner) -> None:
    stop = asyncio.Event()
    stop.set()
    await maintenance.execute("""
        INSERT INTO taskbell.command (message_id, routing_key, state, finished_at)
        VALUES ('old', 'maintenance.cleanup_completed_tasks', 'done', now() - interval '91 days')
    """)
    await pruner.prune(stop)
    assert await maintenance.value("SELECT count(*) FROM taskbell.command") == 1
