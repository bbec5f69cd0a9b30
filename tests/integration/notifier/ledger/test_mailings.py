"""From an event on the exchange to mails in the inbox, with everything real between them."""

from datetime import timedelta
from uuid import UUID

import pytest
from tests.integration.notifier.ledger.support import DAY, HOUR, NotifierTables, running, settings_for
from tests.support.inbox import Inbox
from tests.support.management import Management
from tests.support.waiting import eventually

EVENTS = "taskbell.events"


async def all_published(tables: NotifierTables) -> bool:
    """Has the broker confirmed whatever the notifier had to tell?"""
    return not await tables.value("SELECT count(*) FROM taskbell.outbox WHERE published_at IS NULL")


async def test_exactly_those_who_have_something_to_be_told_get_one_mail_each(
    tables: NotifierTables, inbox: Inbox, database_url: str, broker_url: str, management: Management
) -> None:
    await tables.user(1)  # overdue: two tasks
    await tables.task(1, due=-DAY)
    await tables.task(1, due=-2 * DAY)
    await tables.user(2)  # due within a day
    await tables.task(2, due=5 * HOUR)
    await tables.user(3)  # only the weekly mail: due in three days
    await tables.task(3, due=3 * DAY)
    await tables.user(4)  # nothing at all
    await tables.user(5, is_active=False)
    await tables.task(5, due=-DAY)
    await tables.user(6, is_active=None)
    await tables.task(6, due=-DAY)
    await tables.user(7)  # only done, cancelled and unknown ones
    await tables.task(7, due=-DAY, status="done", completed_at=tables.now - HOUR)
    await tables.task(7, due=-DAY, status="cancelled")
    await tables.task(7, due=-DAY, status="blocked")
    await tables.user(8, timezone="Foo/Bar")  # no such zone: mailed by TIMEZONE
    await tables.task(8, due=-HOUR)
    await tables.task(None, due=-DAY)

    async with running(settings_for(database_url, smtp_port=inbox.port, broker_url=broker_url)):
        for key in ("overdue.due", "reminder.due", "weekly.due"):
            assert await management.publish(EVENTS, key, {})
        await tables.completed(3)

    told = sorted((mail.message["List-Id"].split(".")[0][1:], mail.recipient) for mail in inbox.mails)
    assert told == [
        ("overdue", "user1@example.org"),
        ("overdue", "user8@example.org"),
        ("reminder", "user2@example.org"),
        ("weekly", "user1@example.org"),
        ("weekly", "user2@example.org"),
        ("weekly", "user3@example.org"),
        ("weekly", "user7@example.org"),
        ("weekly", "user8@example.org"),
    ]
    assert all(row["state"] == "sent" for row in await tables.rows("SELECT state FROM taskbell.delivery"))


async def test_published_again_it_mails_nobody(
    tables: NotifierTables, inbox: Inbox, database_url: str, broker_url: str, management: Management
) -> None:
    await tables.late_people(1, 2)
    async with running(settings_for(database_url, smtp_port=inbox.port, broker_url=broker_url)):
        await management.publish(EVENTS, "overdue.due", {})
        await tables.completed(1)
        await management.publish(EVENTS, "overdue.due", {})
        _, second = await tables.completed(2)

    assert sorted(mail.recipient for mail in inbox.mails) == ["user1@example.org", "user2@example.org"]
    assert second["counts"]["already"] == 2
    assert second["counts"]["sent"] == 0


@pytest.mark.parametrize("forced", [[2], [2, 3, 77]])
async def test_force_mails_only_those_named_and_only_if_they_have_something_to_be_told(
    tables: NotifierTables, inbox: Inbox, database_url: str, broker_url: str, management: Management, forced: list[int]
) -> None:
    await tables.late_people(1, 2)
    await tables.user(3)
    async with running(settings_for(database_url, smtp_port=inbox.port, broker_url=broker_url)):
        await management.publish(EVENTS, "overdue.due", {})
        await tables.completed(1)
        await management.publish(EVENTS, "overdue.due", {"user_ids": forced, "force": True})
        await tables.completed(2)

    assert sorted(mail.recipient for mail in inbox.mails) == [
        "user1@example.org",
        "user2@example.org",
        "user2@example.org",
    ]
    runs = await tables.rows("SELECT run FROM taskbell.delivery WHERE user_id = 2 ORDER BY run")
    assert [row["run"] for row in runs] == [0, 1]


async def test_an_empty_list_of_users_mails_nobody(
    tables: NotifierTables, inbox: Inbox, database_url: str, broker_url: str, management: Management
) -> None:
    await tables.late_people(1)
    async with running(settings_for(database_url, smtp_port=inbox.port, broker_url=broker_url)):
        await management.publish(EVENTS, "overdue.due", {"user_ids": []})
        (mailing,) = await tables.completed(1)
    assert inbox.mails == []
    assert set(mailing["counts"].values()) == {0}


async def test_a_mailing_that_is_over_says_how_its_mails_ended(
    tables: NotifierTables, inbox: Inbox, database_url: str, broker_url: str, management: Management
) -> None:
    await tables.late_people(1, 2, 3, 4, 5)
    await tables.execute("UPDATE users SET email = 'nonsense' WHERE id = 2")
    await tables.execute("INSERT INTO taskbell.preference (user_id, kind, enabled) VALUES (3, 'overdue', false)")
    await tables.execute("INSERT INTO taskbell.preference (user_id, kind, enabled) VALUES (5, 'reminder', false)")
    await tables.execute(
        "INSERT INTO taskbell.suppression (address, reason) VALUES ('user4@example.org', 'RCPT: 550 5.1.1')"
    )
    completed = await management.listen(EVENTS, "mailing.completed")
    failed = await management.listen(EVENTS, "mail.failed")
    occurrence = (tables.now - timedelta(minutes=1)).replace(microsecond=0)
    async with running(settings_for(database_url, smtp_port=inbox.port, broker_url=broker_url)):
        body = {"occurrence": occurrence.isoformat(), "timezone": "UTC"}
        await management.publish(EVENTS, "overdue.due", body, properties={"message_id": "occurrence-1"})
        (mailing,) = await tables.completed(1)
        await eventually(lambda: all_published(tables))  # a service that stops leaves its outbox to the next one

    rows = await tables.deliveries()
    assert {recipient: (row["state"], row["reason"]) for recipient, row in rows.items()} == {
        "user:1": ("sent", "message: 250 OK"),
        "user:2": ("failed", "no valid address"),
        "user:3": ("skipped", "opted out of overdue"),
        "user:4": ("suppressed", "address suppressed: RCPT: 550 5.1.1"),
        "user:5": ("sent", "message: 250 OK"),
    }
    (told,) = await management.take(completed)
    assert told.json() == {
        "mailing_id": mailing["id"],
        "kind": "overdue",
        "occurrence": occurrence.isoformat().replace("+00:00", "Z"),
        "counts": {"sent": 2, "skipped": 1, "suppressed": 1, "expired": 0, "failed": 1, "already": 0},
    }
    (failure,) = await management.take(failed)
    assert failure.json() == {
        "delivery_id": rows["user:2"]["id"],
        "user_id": 2,
        "kind": "overdue",
        "reason": "no valid address",
    }


async def test_nobody_can_take_the_events_of_a_mailing_beforehand(
    tables: NotifierTables, inbox: Inbox, database_url: str, broker_url: str, management: Management
) -> None:
    """Also not under the ids that former versions gave them, which anybody can count."""
    await tables.late_people(1)
    await tables.execute("UPDATE users SET email = 'nobody at all'")
    for name in ("mailing.completed.1", "mail.failed.1"):
        await tables.execute("SELECT taskbell.enqueue('weekly.due', '{}', :id)", id=name)
    async with running(settings_for(database_url, smtp_port=inbox.port, broker_url=broker_url)):
        await management.publish(EVENTS, "overdue.due", {})
        await tables.completed(1)
    assert [it["mailing_id"] for it in await tables.outbox("mailing.completed")] == [1]
    ids = await tables.rows("SELECT message_id FROM taskbell.outbox WHERE owner = 'notifier'")
    assert all(UUID(row["message_id"]).version == 4 for row in ids)


async def test_another_event_under_the_same_id_is_dead_lettered_with_that_reason(
    tables: NotifierTables, inbox: Inbox, database_url: str, broker_url: str, management: Management
) -> None:
    await tables.late_people(1)
    async with running(settings_for(database_url, smtp_port=inbox.port, broker_url=broker_url)):
        for body in ({}, {"user_ids": None}, {"user_ids": [1]}):
            await management.publish(EVENTS, "overdue.due", body, properties={"message_id": "m1"})

        async def is_dead() -> bool:
            return (await management.depth("notifier.dead")).ready == 1

        await eventually(is_dead)
        await tables.completed(1)
    (dead,) = await management.take("notifier.dead")
    assert dead.json() == {"user_ids": [1]}
    assert dead.headers["x-taskbell-reason"] == "this message_id was another message's"
    assert await tables.value("SELECT count(*) FROM taskbell.mailing") == 1
