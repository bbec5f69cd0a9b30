"""Copies of two versions at once, as while services are replaced one by one (docs/deploy.md)."""

import asyncio
from collections import Counter

from tests.chaos.support.processes import ServiceProcess
from tests.support.servers import ServerUrls
from tests.support.waiting import eventually
from tests.upgrade.installation import EVENTS, SharedInstallation, fresh_installation
from tests.upgrade.versions import Version

PEOPLE = 200
KINDS = ("overdue", "reminder", "weekly")
PEOPLE_SQL = """
    INSERT INTO users (id, name, email, timezone, is_active)
    SELECT n, 'Person ' || n, n || '@example.org', 'UTC', true FROM generate_series(1, $1::int) AS n
"""
TASKS_SQL = """
    INSERT INTO tasks (title, status, priority, due_date, assignee_id)
    SELECT 'Task', 'pending', 'medium', now() + days * interval '12 hours', n
    FROM generate_series(1, $1::int) AS n, (VALUES (-1), (1)) AS d (days)
"""
# What a notifier that ends gives back is looked at ten seconds later.
BRING_FORWARD_SQL = """
    UPDATE taskbell.delivery SET next_attempt_at = now(), due_at = now() WHERE ended_at IS NULL AND state <> 'sending'
"""


async def test_two_notifiers_of_two_versions_share_their_work_and_mail_nobody_twice(
    servers: ServerUrls, former: Version, present: Version
) -> None:
    async with fresh_installation(servers, MAIL_POOL_SIZE="4") as installation:
        await installation.taskbell(former, "setup", "--with-app-tables")
        await installation.rows(PEOPLE_SQL, PEOPLE)
        await installation.rows(TASKS_SQL, PEOPLE)
        installation.server.rule("DOT", delay=0.1)
        old, new = installation.add(former, "notifier"), installation.add(present, "notifier")
        await old.start()
        await installation.publish(EVENTS, "overdue.due", {}, "overdue")
        await installation.server.until(lambda: len(installation.server.accepted) > 0)

        await installation.taskbell(present, "setup")
        # That of an older version leaves everything as it is.
        await installation.taskbell(former, "setup")
        await new.start()
        await installation.publish(EVENTS, "reminder.due", {}, "reminder")
        await installation.publish(EVENTS, "weekly.due", {}, "weekly")
        before = len(installation.server.accepted)
        await eventually(lambda: both_send(installation, before, old, new), limit=60, what="mails of both")
        await old.stop()
        installation.server.clear()
        await installation.rows(BRING_FORWARD_SQL)

        counts = dict(zip(KINDS, await asyncio.gather(*map(installation.mailing, KINDS)), strict=True))
        assert {kind: found["sent"] for kind, found in counts.items()} == dict.fromkeys(KINDS, PEOPLE)
        assert Counter(
            (mail.message_id.split(".")[0][1:], mail.recipients) for mail in installation.server.accepted
        ) == {(kind, (f"{number}@example.org",)): 1 for kind in KINDS for number in range(1, PEOPLE + 1)}
        assert {row["resends"] for row in (await installation.deliveries()).values()} == {0}


async def both_send(installation: SharedInstallation, before: int, *notifiers: ServiceProcess) -> bool:
    """Whether each of them has sent some, and there are more to be sent."""
    installation.processes.check_running(notifiers)
    sent = [await member.metric("taskbell_smtp_submissions_total") for member in notifiers]
    assert all(sent), sent
    assert await installation.value("SELECT count(*) FROM taskbell.delivery WHERE ended_at IS NULL") > 0, "all is over"
    return len(installation.server.accepted) >= before + 20
