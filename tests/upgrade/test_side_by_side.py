"""Copies of two versions at once, as while services are replaced one by one (docs/deploy.md)."""

import asyncio
from collections import Counter

from tests.chaos.crew import Member
from tests.support.servers import ServerUrls
from tests.support.waiting import eventually
from tests.upgrade.place import EVENTS, Place, fresh_place
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


async def test_two_notifiers_of_two_versions_share_their_work_and_mail_nobody_twice(
    servers: ServerUrls, former: Version, present: Version
) -> None:
    async with fresh_place(servers, MAIL_POOL_SIZE="4") as place:
        await place.taskbell(former, "setup", "--with-app-tables")
        await place.rows(PEOPLE_SQL, PEOPLE)
        await place.rows(TASKS_SQL, PEOPLE)
        place.server.rule("DOT", delay=0.1)
        old, new = place.add(former, "notifier"), place.add(present, "notifier")
        await old.start()
        await place.publish(EVENTS, "overdue.due", {}, "overdue")
        await place.server.until(lambda: len(place.server.accepted) > 0)

        await place.taskbell(present, "setup")
        await place.taskbell(former, "setup")  # that of an older version leaves everything as it is
        await new.start()
        await place.publish(EVENTS, "reminder.due", {}, "reminder")
        await place.publish(EVENTS, "weekly.due", {}, "weekly")
        before = len(place.server.accepted)
        await eventually(lambda: both_send(place, before, old, new), limit=60, what="mails of both")
        await old.stop()
        place.server.clear()

        counts = dict(zip(KINDS, await asyncio.gather(*map(place.mailing, KINDS)), strict=True))
        assert {kind: found["sent"] for kind, found in counts.items()} == dict.fromkeys(KINDS, PEOPLE)
        assert Counter((mail.message_id.split(".")[0][1:], mail.recipients) for mail in place.server.accepted) == {
            (kind, (f"{number}@example.org",)): 1 for kind in KINDS for number in range(1, PEOPLE + 1)
        }
        assert {row["resends"] for row in (await place.deliveries()).values()} == {0}
        await new.stop()


async def both_send(place: Place, before: int, *notifiers: Member) -> bool:
    """Has each of them sent some, and are there more to be sent?"""
    place.crew.check_running(notifiers)
    sent = [await member.metric("taskbell_smtp_submissions_total") for member in notifiers]
    assert all(sent), sent
    assert await place.value("SELECT count(*) FROM taskbell.delivery WHERE ended_at IS NULL") > 0, "all is over"
    return len(place.server.accepted) >= before + 20
