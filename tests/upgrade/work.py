"""Work of every kind that the former version has begun, done in part, or not seen yet when it is ended."""

import asyncio
import email
import email.policy
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import asyncpg

from tests.support.scripted_smtp import Accepted, Rule, ScriptedSmtp
from tests.support.virtual_clock import VirtualClock
from tests.support.waiting import eventually
from tests.upgrade.installation import COMMANDS, EVENTS, SharedInstallation
from tests.upgrade.versions import Version

MORNING = datetime.now(UTC).replace(hour=10, minute=0, second=0, microsecond=0)
"""When all of it happens, by the database's clock: no midnight of any of the people's zones is near."""

MINUTE = timedelta(minutes=1)
PEOPLE = 300
"""Three batches: two of them are begun, the third is not."""
WEEKLY = range(1, 41)
REMINDED = range(41, 61)
SESSIONS = 8

STATUS = "maintenance.update_task_status"
OLD = range(2_001, 2_011)
"""Tasks that a cleanup takes."""
TASKS = range(1_001, 1_101)
"""Tasks that are nobody's: commands change their status."""
CHANGED, TOLD_LATER, BROKEN = TASKS[:3]
BY_APP, BEGUN, WAITING = TASKS[10:20], TASKS[20:40], TASKS[40:50]


def status(task: int) -> dict[str, Any]:
    """The body of a command to start work on a task."""
    return {"task_id": task, "new_status": "in_progress"}


FINISHED: dict[str, tuple[str, Any]] = {
    "done": (STATUS, status(CHANGED)),
    "unchanged": (STATUS, status(CHANGED)),
    "rejected": (STATUS, status(999_999)),
    "cleanup": ("maintenance.cleanup_completed_tasks", {}),
    "test mail": ("notifier.send_test_mail", {"to": "ops@example.org"}),
    "told later": (STATUS, status(TOLD_LATER)),
    "report": ("maintenance.generate_task_report", {"date": MORNING.date().isoformat()}),
}
"""Commands that end before the former version does, each with the stored outcome that its name says or `done`."""
STATES = ("done", "unchanged", "rejected")
EVENTS_LATER = ("told later", "report")
"""Those whose events cannot be published any more."""
INVALID = "invalid", "no JSON"
"""A command that becomes a dead letter."""

SCHEDULES = """
[[schedule]]
name = "{name}"
cron = "* * * * *"
timezone = "UTC"
publish = "{key}"
payload = {{user_ids = []}}
catch_up = "1h"
"""
RUNNING, PAUSED = "running", "paused"
NOTE = "until the move is over"

PEOPLE_SQL = """
    INSERT INTO users (id, name, email, timezone, is_active)
    SELECT n, 'Person ' || n, 'person' || n || '@example.org',
        (ARRAY['UTC', 'Europe/Berlin', 'Asia/Kolkata'])[1 + n % 3], true
    FROM generate_series(1, $1::int) AS n
"""
TASKS_SQL = """
    INSERT INTO tasks (id, title, status, priority, due_date, completed_at, assignee_id)
    SELECT n, 'Late ' || n, 'pending', 'high', now() - interval '3 days', NULL::timestamptz, n
    FROM generate_series(1, $1::int) AS n
    UNION ALL
    SELECT 500 + n, 'Soon ' || n, 'pending', 'low', now() + interval '12 hours', NULL, n
    FROM generate_series(1, $1::int) AS n
    UNION ALL
    SELECT n, 'Nobody''s ' || n, 'pending', 'medium', NULL, NULL, NULL FROM unnest($2::bigint[]) AS n
    UNION ALL
    SELECT n, 'Old ' || n, 'done', 'medium', NULL, now() - interval '60 days', NULL FROM unnest($3::bigint[]) AS n
"""
BREAK_SQL = f"""
    CREATE FUNCTION public.told() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN PERFORM public.not_written_yet(); RETURN NEW; END';
    CREATE TRIGGER told BEFORE UPDATE ON public.tasks FOR EACH ROW WHEN (NEW.id = {BROKEN})
        EXECUTE FUNCTION public.told()
"""
MEND_SQL = "DROP TRIGGER told ON public.tasks"


@dataclass(frozen=True)
class LeftWork:
    """What the former version has left behind."""

    deliveries: dict[int, dict[str, Any]]
    commands: dict[str, dict[str, Any]]
    unpublished: set[str]
    """The message_ids that wait in the outbox."""
    taken: Counter[str]
    """How often the mail server has taken each Message-ID so far."""
    mail: EmailMessage
    """An overdue alert that it has sent."""


def schedules_file(folder: Path) -> Path:
    """Two schedules that fall due every minute, and mail nobody."""
    file = folder / "schedules.toml"
    entries = ((RUNNING, "overdue.due"), (PAUSED, "weekly.due"))
    file.write_text("".join(SCHEDULES.format(name=name, key=key) for name, key in entries))
    return file


async def leave_work(installation: SharedInstallation, former: Version, clock: VirtualClock) -> LeftWork:
    """Lets the former version set everything up and work, and kills it in the middle."""
    await installation.taskbell(former, "setup", "--with-app-tables")
    await clock.install()
    await clock.take_over_defaults()
    await clock.set(MORNING, runs=True)
    await installation.rows(PEOPLE_SQL, PEOPLE)
    await installation.rows(TASKS_SQL, PEOPLE, list(TASKS), list(OLD))
    notifier, maintenance = installation.add(former, "notifier"), installation.add(former, "maintenance")
    await asyncio.gather(notifier.start(), maintenance.start(), _pause_a_schedule(installation, former))

    await _finish_some(installation)
    await _begin_a_mailing(installation)
    await _plan_another_that_is_not_published(installation)
    await installation.management.call("DELETE", f"/exchanges/{{vhost}}/{EVENTS}")
    await _do_what_is_told_later(installation)
    scheduler = installation.add(former, "scheduler")
    await scheduler.start()
    await eventually(lambda: _waits_in_outbox(installation, "scheduler"), what="an occurrence in the outbox")
    await _put_one_on_the_retry_ladder(installation)
    async with _tasks_locked(installation):
        await _publish(installation, "begun", BEGUN)
        await eventually(lambda: _all_taken(installation), what="commands under way")
        await asyncio.gather(scheduler.stop(), notifier.kill(), maintenance.kill())
    await installation.rows(MEND_SQL)
    installation.server.clear()

    await _publish(installation, "waiting", WAITING)
    for task in BY_APP:
        await _enqueue(installation, STATUS, status(task), f"app-{task}")
    await _enqueue(installation, "reminder.due", {"user_ids": list(REMINDED)}, "reminders")
    return LeftWork(
        await installation.deliveries(),
        await installation.commands(),
        await installation.unpublished(),
        installation.taken(),
        parsed(next(mail for mail in installation.server.accepted if mail.message_id.startswith("<overdue."))),
    )


def parsed(mail: Accepted) -> EmailMessage:
    """What the mail server took, as a mail program reads it."""
    return email.message_from_bytes(mail.message, policy=email.policy.default)


async def _pause_a_schedule(installation: SharedInstallation, former: Version) -> None:
    """Pauses one schedule. The other has been dealt with up to five minutes ago."""
    await installation.rows(
        "INSERT INTO taskbell.schedule_state (schedule, zone, cron, position) VALUES ($1, 'UTC', '* * * * *', $2)",
        RUNNING,
        MORNING - 5 * MINUTE,
    )
    await installation.taskbell(former, "schedules", "pause", PAUSED, "--note", NOTE)


async def _finish_some(installation: SharedInstallation) -> None:
    """Waits for commands of every outcome, an archive batch, a test mail and a dead letter."""
    now = [message_id for message_id in FINISHED if message_id not in EVENTS_LATER]
    for message_id in now:
        await installation.publish(COMMANDS, *FINISHED[message_id], message_id)
    message_id, body = INVALID
    await installation.publish(COMMANDS, STATUS, body, message_id)

    async def ended() -> bool:
        found = {message_id: row["state"] for message_id, row in (await installation.commands()).items()}
        assert found == {it: it if it in STATES else "done" for it in now} | {INVALID[0]: "rejected"}
        assert await installation.ready("maintenance.dead") == 1
        return len(installation.server.accepted) == 1

    await eventually(ended, what="the end of the first commands")


def _script(server: ScriptedSmtp) -> tuple[Rule, Rule]:
    """Puts some off, refuses some, cuts some off after the message, takes about sixty, and then answers no mail.

    Returns the rules that leave mails unanswered before and after their message.
    """
    for number in range(1, PEOPLE + 1):
        it = f"person{number}@example.org"
        match number % 20:
            case 1:
                server.rule("RCPT", reply="450 4.2.0 later", recipient=it)
            case 2:
                server.rule("DOT", drop=True, accept=True, recipient=it)
            case 3:
                server.rule("DOT", drop=True, accept=False, recipient=it)
            case 4:
                server.rule("RCPT", reply="550 5.7.1 not here", recipient=it)
    before = server.rule("RCPT", hold=True, after=80, times=2)
    server.rule("DOT", hold=True, accept=True, after=60, times=3)
    return before, server.rule("DOT", hold=True, accept=False, after=60, times=3)


async def _begin_a_mailing(installation: SharedInstallation) -> None:
    """Mails everybody, until there is a row in every state in which it can be at that moment."""
    before, after = _script(installation.server)
    await installation.publish(EVENTS, "overdue.due", {}, "overdue mailing")

    async def under_way() -> bool:
        assert (before.seen, after.seen) >= (82, 63), "not every session waits"
        rows = await installation.rows("SELECT DISTINCT state, phase FROM taskbell.delivery WHERE kind = 'overdue'")
        return {(row["state"], row["phase"]) for row in rows} == {
            ("planned", None),
            ("sending", "envelope"),
            ("sending", "data"),
            ("retry", None),
            ("unknown", None),
            ("sent", None),
            ("failed", None),
        }

    await eventually(under_way, what="a row of the mailing in every state")


async def _plan_another_that_is_not_published(installation: SharedInstallation) -> None:
    """Plans the weekly mails of some people. Their batch cannot be published: no queue is bound for it."""
    queue = "notifier.send_batch"
    await installation.management.call("DELETE", f"/bindings/{{vhost}}/e/{COMMANDS}/q/{queue}/{queue}")
    await installation.publish(EVENTS, "weekly.due", {"user_ids": list(WEEKLY)}, "weekly mailing")
    await eventually(lambda: _waits_in_outbox(installation, "notifier"), what="a batch in the outbox")


async def _do_what_is_told_later(installation: SharedInstallation) -> None:
    """Changes a status and makes a report, while their events cannot be published."""
    for message_id in EVENTS_LATER:
        await installation.publish(COMMANDS, *FINISHED[message_id], message_id)

    async def waits() -> bool:
        return set(EVENTS_LATER) <= set(await installation.commands()) and await _waits_in_outbox(
            installation, "maintenance"
        )

    await eventually(waits, what="events in the outbox")


async def _put_one_on_the_retry_ladder(installation: SharedInstallation) -> None:
    """Breaks a trigger of the app's table, and sends a command that meets it."""
    connection = await asyncpg.connect(installation.database_url)
    try:
        await connection.execute(BREAK_SQL)
    finally:
        await connection.close()
    await _publish(installation, "retried", [BROKEN])
    await eventually(lambda: installation.ready("taskbell.retry.10s"), what="a command on the retry ladder")


async def _publish(installation: SharedInstallation, name: str, tasks: Iterable[int]) -> None:
    for task in tasks:
        await installation.publish(COMMANDS, STATUS, status(task), f"{name}-{task}")


async def _enqueue(installation: SharedInstallation, key: str, body: Any, message_id: str) -> None:
    """Leaves a message in the outbox, as a web app does."""
    await installation.rows("SELECT taskbell.enqueue($1, $2::jsonb, $3)", key, json.dumps(body), message_id)


async def _waits_in_outbox(installation: SharedInstallation, owner: str) -> bool:
    """Whether that owner has a message that could not be published when it was tried."""
    query = "SELECT count(*) FROM taskbell.outbox WHERE owner = $1 AND published_at IS NULL AND last_error IS NOT NULL"
    return bool(await installation.value(query, owner))


async def _all_taken(installation: SharedInstallation) -> bool:
    """Whether a process holds all commands that were begun, and none of them has ended."""
    assert not [it for it in await installation.commands() if it.startswith("begun")]
    return await installation.ready(STATUS) == 0


@asynccontextmanager
async def _tasks_locked(installation: SharedInstallation) -> AsyncIterator[None]:
    """Nobody can change a task until the block ends."""
    connection = await asyncpg.connect(installation.database_url)
    await connection.execute("BEGIN; LOCK TABLE tasks IN EXCLUSIVE MODE")
    try:
        yield
    finally:
        connection.terminate()
