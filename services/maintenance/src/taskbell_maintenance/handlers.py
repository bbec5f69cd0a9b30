"""The table of messages and their use cases."""

from collections.abc import Sequence
from typing import Any

from taskbell.commands import CommandLog
from taskbell.contracts import CleanupCompletedTasks, GenerateTaskReport, UpdateTaskStatus
from taskbell.messaging.consuming.delivery import Body
from taskbell.messaging.consuming.subscription import Handler, Subscription
from taskbell_maintenance.cleanup import Cleanups
from taskbell_maintenance.packages import PackageHandler
from taskbell_maintenance.reports import DailyReports
from taskbell_maintenance.statuses import StatusUpdates

SET = 200
"""How many status updates are applied together at most."""


def subscriptions(
    commands: CommandLog,
    statuses: StatusUpdates,
    cleanups: Cleanups,
    reports: DailyReports,
    packages: Sequence[PackageHandler] = (),
) -> Sequence[Subscription[Any]]:
    """The table of messages. Each message has its own worker, so that a status update never waits for a cleanup.

    Status updates have only one worker, so that two for the same task take effect in the order in which they were sent.
    """
    return (
        _line(commands, "maintenance.update_task_status", UpdateTaskStatus, statuses.update, SET, 5 * SET),
        _line(commands, "maintenance.cleanup_completed_tasks", CleanupCompletedTasks, cleanups.clean_up),
        _line(commands, "maintenance.generate_task_report", GenerateTaskReport, reports.generate),
        *(_line_of_package(commands, it) for it in packages),
    )


def _line(
    commands: CommandLog, queue: str, contract: type[Body], handle: Handler[Body], batch: int = 1, prefetch: int = 1
) -> Subscription[Body]:
    return Subscription(
        queue, contract, handle, batch=batch, prefetch=prefetch, on_invalid=commands.refuse, on_dead=commands.fail
    )


def _line_of_package(commands: CommandLog, it: PackageHandler) -> Subscription[Any]:
    queue, contract = it.message.queue, it.message.contract
    assert queue is not None  # a handler's message has a consumer: extensions.checks
    prefetch = 1 if it.batch == 1 else 5 * it.batch
    if it.message.kind == "command":
        return _line(commands, queue, contract, it.handle, it.batch, prefetch)
    return Subscription(queue, contract, it.handle, batch=it.batch, prefetch=prefetch)
