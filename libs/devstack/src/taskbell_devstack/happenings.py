"""What every demo makes happen, wherever its servers run: three mailings, a report, a cleanup, a changed status."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import asyncpg

from taskbell.client import AsyncClient, Outcome
from taskbell.contracts import (
    CleanupCompletedTasks,
    GenerateTaskReport,
    OverdueDue,
    ReminderDue,
    TaskStatus,
    UpdateTaskStatus,
    WeeklyDue,
)
from taskbell_devstack.errors import DemoFailed

LIMIT = 90.0  # seconds for everything that the demo sets going to have happened
PAUSE = 0.1
STARTED_TASK = 65  # a task of one of the busy people, pending, due this week


@dataclass(frozen=True)
class Happened:
    """What the demo has made happen."""

    mailings: list[str]
    """The message_ids of their events."""
    report: Outcome
    cleanup: Outcome
    status_change: Outcome


async def publish_all(broker_url: str, *, prefix: str | None = None) -> Happened:
    """Publish everything, and return once the three commands have taken effect; the mailings may still go on.

    Args:
        prefix: begins the message_ids. With the same one again nothing happens twice: a message_id takes effect once.
            None: new ones each time, and new mails, because whoever tries the demo twice a day wants to see them twice.

    Raises DemoFailed where a command did not take effect.
    """

    def id_(what: str) -> str | None:
        return None if prefix is None else f"{prefix}-{what}"

    async with AsyncClient(broker_url, timeout=LIMIT, name="taskbell demo") as client:
        mailings = [
            await client.publish(ReminderDue(force=True), message_id=id_("reminder")),
            await client.publish(OverdueDue(force=True), message_id=id_("overdue")),
            await client.publish(WeeklyDue(force=True), message_id=id_("weekly")),
        ]
        change = UpdateTaskStatus(task_id=STARTED_TASK, new_status=TaskStatus.IN_PROGRESS, requested_by="demo")
        happened = Happened(
            mailings=mailings,
            report=await client.request(GenerateTaskReport(), message_id=id_("report")),
            cleanup=await client.request(CleanupCompletedTasks(), message_id=id_("cleanup")),
            status_change=await client.request(change, message_id=id_("status-change")),
        )
    for what, outcome in (
        ("report", happened.report),
        ("cleanup", happened.cleanup),
        ("change of a status", happened.status_change),
    ):
        if not outcome.ok:
            raise DemoFailed(f"The {what} was {outcome.state}: {outcome.reason}")
    return happened


async def until(look: Callable[[], Awaitable[bool]], what: str, *, see: str) -> None:
    """Look again and again; raises DemoFailed, naming `what`, when it is not so within the limit.

    `see` says where to look for the reason.
    """
    try:
        async with asyncio.timeout(LIMIT):
            while not await look():  # noqa: ASYNC110 - a row in a database has no event to wait for
                await asyncio.sleep(PAUSE)
    except TimeoutError:
        raise DemoFailed(f"Waited {LIMIT:g} s in vain for {what}: see {see}") from None


async def mailings_completed(connection: asyncpg.Connection, messages: Sequence[str]) -> bool:
    """Whether the last mail of each of them has reached its end."""
    open_ones = "SELECT count(*) FROM taskbell.mailing WHERE message_id = ANY($1) AND completed_at IS NOT NULL"
    return bool(await connection.fetchval(open_ones, messages) == len(messages))


async def report_mailed(connection: asyncpg.Connection, report: Outcome, recipient: str) -> bool:
    """Once a date: a second report of a day replaces the first, and is not mailed again."""
    ended = "SELECT count(*) FROM taskbell.delivery WHERE recipient = $1 AND period = $2 AND ended_at IS NOT NULL"
    date = (report.result or {})["date"]
    return bool(await connection.fetchval(ended, f"address:{recipient}", date) > 0)
