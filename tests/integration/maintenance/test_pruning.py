"""What maintenance never prunes, however old."""

import asyncio
from functools import partial

from tests.integration.maintenance.use_cases import Maintenance
from tests.support.probes import ping

from taskbell.gate import Gate
from taskbell.health import Health
from taskbell.pruning import Pruner
from taskbell_maintenance.app import ended_rows


async def test_reports_and_archived_tasks_are_kept_for_ever(maintenance: Maintenance) -> None:
    await maintenance.done(31)
    await maintenance.clean_up()
    await maintenance.report()
    await maintenance.execute("""
        UPDATE taskbell.report SET date = '1990-01-01', generated_at = '1990-01-01', as_of = '1990-01-01';
        UPDATE taskbell.archive_batch SET started_at = '1990-01-01', finished_at = '1990-01-01';
        UPDATE taskbell.archived_task SET archived_at = '1990-01-01', restored_at = '1990-01-01';
        UPDATE taskbell.command SET finished_at = '1990-01-01';
    """)
    gate = Gate("postgresql", partial(ping, maintenance.database), Health())
    await Pruner(maintenance.database, gate, ended_rows()).prune(asyncio.Event())
    for table in ("report", "archive_batch", "archived_task"):
        assert await maintenance.value(f"SELECT count(*) FROM taskbell.{table}") == 1
    assert await maintenance.value("SELECT count(*) FROM taskbell.command") == 0
