"""The actions of every demo, wherever its servers run: three mailings, a report, a cleanup, a changed status."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import asyncpg

from taskbell.client import AsyncClient, CommandOutcome
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

LIMIT = 90.0  # seconds for each thing that the demo waits for
PAUSE = 0.1  # seconds
STARTED_TASK = 65  # a pending task, due this week, of one of the busy people


@dataclass(frozen=True)
class DemoOutcomes:
    """The outcomes of the demo's actions."""

    mailings: list[str]
    """The message_ids of the events that started the mailings."""
    report: CommandOutcome
    cleanup: CommandOutcome
    status_change: CommandOutcome


async def publish_all(broker_url: str, *, prefix: str | None = None) -> DemoOutcomes:
    """Publish everything, and return once the three commands have taken effect. The mailings may still be under way.

    Args:
        prefix: the beginning of the message_ids. With the same prefix nothing happens twice, because a message_id takes
            effect once. None: new message_ids each time, so that whoever runs the demo again gets new mails.

    Raises DemoFailed if a command did not take effect.
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
        outcomes = DemoOutcomes(
            mailings=mailings,
            report=await client.request(GenerateTaskReport(), message_id=id_("report")),
            cleanup=await client.request(CleanupCompletedTasks(), message_id=id_("cleanup")),
            status_change=await client.request(change, message_id=id_("status-change")),
        )
    for what, outcome in (
        ("report", outcomes.report),
        ("cleanup", outcomes.cleanup),
        ("change of a status", outcomes.status_change),
    ):
        if not outcome.ok:
            raise DemoFailed(f"The {what} was {outcome.state}: {outcome.reason}")
    return outcomes


async def until(look: Callable[[], Awaitable[bool]], what: str, *, see: str) -> None:
    """Check again and again, until `look` returns True.

    Raises DemoFailed, which names `what`, if that takes longer than LIMIT. `see` says where the reason may be found.
    """
    try:
        async with asyncio.timeout(LIMIT):
            while not await look():  # noqa: ASYNC110 - a row in a database has no event to wait for
                await asyncio.sleep(PAUSE)
    except TimeoutError:
        raise DemoFailed(f"Waited {LIMIT:g} s for {what}, which did not happen: see {see}") from None


async def mailings_completed(connection: asyncpg.Connection, messages: Sequence[str]) -> bool:
    """Whether all mails of these mailings have ended."""
    completed = "SELECT count(*) FROM taskbell.mailing WHERE message_id = ANY($1) AND completed_at IS NOT NULL"
    return bool(await connection.fetchval(completed, messages) == len(messages))


async def report_mailed(connection: asyncpg.Connection, report: CommandOutcome, recipient: str) -> bool:
    """Whether the mail of the report's date has ended. A second report of a date is stored but not mailed again."""
    ended = "SELECT count(*) FROM taskbell.delivery WHERE recipient = $1 AND period = $2 AND ended_at IS NOT NULL"
    date = (report.result or {})["date"]
    return bool(await connection.fetchval(ended, f"address:{recipient}", date) > 0)
