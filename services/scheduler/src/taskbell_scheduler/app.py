"""Constructs the scheduler and its parts."""

from collections.abc import Sequence
from functools import partial

from taskbell.clock_skew import ClockSkew
from taskbell.database import Database
from taskbell.gate import Gate
from taskbell.logs import logger
from taskbell.messaging.publishing.publisher import Publisher
from taskbell.outbox import Outbox, Relay
from taskbell.pruning import EndedRows, Pruner, published_by
from taskbell.service import Application, Process, Service
from taskbell.setup.schema import check_schema
from taskbell.stalled import StalledSessions
from taskbell_scheduler.metrics import SchedulerMetrics
from taskbell_scheduler.repository.scheduling import PRUNED, STALLED
from taskbell_scheduler.schedule_file import read_schedules
from taskbell_scheduler.scheduler import Scheduler
from taskbell_scheduler.settings import SchedulerSettings


def build(settings: SchedulerSettings, process: Process) -> Application:
    """Constructs the service; nothing is connected yet.

    Raises:
        SchedulesError: the schedules file has mistakes.
    """
    schedules = read_schedules(settings.schedules_file, default_zone=settings.timezone)
    log = logger("scheduler")
    for warning in (it for schedule in schedules for it in schedule.warnings):
        log.warning("schedule.doubtful", warning=str(warning))
    database = Database.connect(settings, name="taskbell scheduler")
    publisher = Publisher(settings.broker_url.get_secret_value(), name="taskbell scheduler")
    gate = Gate("postgresql", partial(check_schema, database), process.health)
    outbox = Outbox("scheduler")
    scheduler = Scheduler(
        schedules,
        settings.timezone,
        database=database,
        outbox=outbox,
        gate=gate,
        health=process.health,
        metrics=SchedulerMetrics(process.metrics),
    )
    relay = Relay(database, publisher, outbox, gate=gate, health=process.health, metrics=process.metrics)
    return Application(
        parts=[
            gate,
            scheduler,
            relay,
            Pruner(database, gate, ended_rows()),
            ClockSkew(database, gate, process.clock, health=process.health, metrics=process.metrics),
            StalledSessions(database, gate, limit=STALLED.total_seconds()),
        ],
        close=[publisher.close, database.close],
    )


def ended_rows() -> Sequence[EndedRows]:
    """What the scheduler prunes."""
    return (PRUNED, published_by("scheduler"))


service = Service("scheduler", SchedulerSettings, build)
"""The entry point that `taskbell run scheduler` loads."""
