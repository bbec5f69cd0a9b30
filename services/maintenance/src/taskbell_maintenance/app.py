"""Constructs the maintenance service and its parts."""

from collections.abc import Sequence

from taskbell.clock_skew import ClockSkew
from taskbell.commands import CommandLog, Replies
from taskbell.database import Database
from taskbell.extensions import installed
from taskbell.gate import Gate
from taskbell.messaging.consuming.consumers import Consumers
from taskbell.messaging.publishing.publisher import Publisher
from taskbell.outbox import Outbox, Relay
from taskbell.pruning import KEPT_OF_APP, EndedRows, Pruner, commands_of, published_by, refused_commands_of
from taskbell.service import Application, Process, Service
from taskbell.setup.schema import check_schema
from taskbell.stalled import StalledSessions
from taskbell.zones import zone_named
from taskbell_maintenance.cleanup import Cleanups
from taskbell_maintenance.dead_letters import DeadLetterQueues
from taskbell_maintenance.handlers import subscriptions
from taskbell_maintenance.packages import PackageHandler
from taskbell_maintenance.reports import DailyReports
from taskbell_maintenance.repository.locks import TaskLocks
from taskbell_maintenance.settings import MaintenanceSettings
from taskbell_maintenance.statuses import StatusUpdates


def build(settings: MaintenanceSettings, process: Process) -> Application:
    """Constructs the service; nothing is connected yet."""
    health, metrics = process.health, process.metrics
    url = settings.broker_url.get_secret_value()
    database = Database.connect(settings, name="taskbell maintenance")
    gate = Gate("postgresql", lambda: check_schema(database), health)
    publisher = Publisher(url, name="taskbell maintenance publish")
    replies = Replies(Publisher(url, name="taskbell maintenance replies"))
    commands = CommandLog(database, replies)
    outbox = Outbox("maintenance")
    locks = TaskLocks(database.app)

    statuses = StatusUpdates(commands, locks, outbox)
    cleanups = Cleanups(
        database,
        commands,
        locks,
        outbox,
        retention_days=settings.retention_days,
        max_share=settings.cleanup_max_share,
    )
    reports = DailyReports(
        commands, DeadLetterQueues(url), outbox, app=database.app, zone=zone_named(settings.timezone)
    )
    packages = [
        PackageHandler(handler, database, commands, outbox)
        for package in installed()
        for handler in package.extension.handlers
    ]
    consumers = Consumers(
        url,
        subscriptions(commands, statuses, cleanups, reports, packages),
        name="taskbell maintenance",
        publisher=publisher,
        gates=[gate],
        health=health,
        metrics=metrics,
    )
    relay = Relay(database, publisher, outbox, gate=gate, health=health, metrics=metrics, also=["app"])
    return Application(
        parts=[
            gate,
            consumers,
            relay,
            cleanups,
            Pruner(database, gate, ended_rows()),
            ClockSkew(database, gate, process.clock, health=process.health, metrics=process.metrics),
            StalledSessions(database, gate),
        ],
        close=[replies.close, publisher.close, database.close],
    )


def ended_rows() -> Sequence[EndedRows]:
    """What maintenance prunes: never a report, an archive batch or an archived task."""
    return (
        commands_of("maintenance", and_of_nobody=True),
        refused_commands_of("maintenance", and_of_nobody=True),
        published_by("maintenance"),
        published_by("app", kept=KEPT_OF_APP),
    )


service = Service("maintenance", MaintenanceSettings, build)
