"""Sending a batch over real SMTP: what each answer makes of a row, and which fences hold."""

import asyncio
import email
import email.policy
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from tests.integration.notifier.ledger.notifier_parts import NotifierParts, planned
from tests.integration.notifier.ledger.support import DAY, HOUR, NotifierTables, received
from tests.support.kinds import MAILINGS, OVERDUE, WEEKLY
from tests.support.scripted_smtp import ScriptedSmtp
from tests.support.waiting import eventually

from taskbell.contracts import OverdueDue, ReminderDue, SendBatch, WeeklyDue
from taskbell.errors import DatabaseUnavailable
from taskbell.kinds import Found
from taskbell_notifier.repository import contents, deliveries
from taskbell_notifier.repository.contents import of_users
from taskbell_notifier.repository.history import now, user_status


def body_of(server: ScriptedSmtp) -> str:
    """The text of the only mail that the server took."""
    (mail,) = server.accepted
    message = email.message_from_bytes(mail.message, policy=email.policy.default)
    part = message.get_body(("plain",))
    assert part is not None
    return str(part.get_content())


async def test_a_mail_that_is_taken_is_sent_under_its_stored_message_id(
    tables: NotifierTables, parts: NotifierParts, server: ScriptedSmtp
) -> None:
    await planned(tables, parts, server)
    await parts.send()
    row = await tables.delivery()
    assert (row["state"], row["attempts"], row["address"]) == ("sent", 1, "user1@example.org")
    assert (row["phase"], row["claim"], row["lease_until"]) == (None, None, None)
    assert row["ended_at"] is not None
    assert row["mail_message_id"] == f"<overdue.{row['id']}.{row['message_token']}@example.org>"
    assert [mail.message_id for mail in server.accepted] == [row["mail_message_id"]]


@pytest.mark.parametrize(
    ("rule", "state", "attempts", "reason"),
    [
        ({"at": "RCPT", "reply": "450 4.2.0 later"}, "retry", 1, "RCPT: 450 4.2.0 later"),
        ({"at": "RCPT", "reply": "550 5.2.1 no"}, "failed", 1, "RCPT: 550 5.2.1 no"),
        ({"at": "RCPT", "drop": True}, "retry", 1, "RCPT: connection lost"),
        ({"at": "DATA", "reply": "451 4.3.0 later"}, "retry", 1, "DATA: 451 4.3.0 later"),
        ({"at": "DATA", "reply": "554 5.1.1 no"}, "failed", 1, "DATA: 554 5.1.1 no"),
        ({"at": "DOT", "reply": "454 4.7.0 too fast"}, "planned", 0, "message: 454 4.7.0 too fast"),
        ({"at": "DOT", "reply": "421 4.3.2 closing"}, "planned", 0, "message: 421 4.3.2 closing"),
        ({"at": "DOT", "reply": "452 4.2.2 full"}, "retry", 1, "message: 452 4.2.2 full"),
        ({"at": "DOT", "reply": "554 5.6.0 no"}, "failed", 1, "message: 554 5.6.0 no"),
        ({"at": "DOT", "drop": True}, "unknown", 1, "message: connection lost"),
        ({"at": "MAIL", "reply": "552 5.3.4 too large"}, "failed", 1, "MAIL: 552 5.3.4 too large"),
        ({"at": "MAIL", "reply": "550 5.7.1 not you"}, "planned", 0, "MAIL: 550 5.7.1 not you"),
        ({"at": "CONNECT", "reply": "421 4.3.2 busy"}, "planned", 0, "connect: 421 4.3.2 busy"),
        ({"at": "EHLO", "drop": True}, "planned", 0, None),
    ],
)
async def test_what_an_answer_makes_of_a_row(
    tables: NotifierTables,
    parts: NotifierParts,
    server: ScriptedSmtp,
    rule: dict[str, Any],
    state: str,
    attempts: int,
    reason: str | None,
) -> None:
    await planned(tables, parts, server)
    server.rule(**rule)
    await parts.send()
    row = await tables.delivery()
    assert (row["state"], row["attempts"]) == (state, attempts)
    assert reason is None or row["reason"] == reason
    assert (row["ended_at"] is None) == (state in ("retry", "unknown", "planned"))
    failed = await tables.outbox("mail.failed")
    assert failed == (
        [{"delivery_id": row["id"], "user_id": 1, "kind": "overdue", "reason": reason}] if state == "failed" else []
    )


@pytest.mark.parametrize(("attempt", "minutes"), [(1, 1), (2, 5), (3, 15), (4, 60)])
async def test_the_next_try_is_later_and_later_and_not_before(
    tables: NotifierTables, parts: NotifierParts, server: ScriptedSmtp, attempt: int, minutes: int
) -> None:
    await planned(tables, parts, server)
    server.rule("RCPT", reply="450 later")
    await tables.execute("UPDATE taskbell.delivery SET attempts = :n", n=attempt - 1)
    await parts.send()
    (row,) = await tables.rows("SELECT next_attempt_at - now() AS wait, due_at - now() AS look FROM taskbell.delivery")
    assert timedelta(minutes=minutes) - row["wait"] < timedelta(seconds=20)
    assert row["look"] == row["wait"]
    server.clear()
    await parts.send()
    assert (await tables.delivery())["state"] == "retry"
    await tables.execute("UPDATE taskbell.delivery SET next_attempt_at = now()")
    await parts.send()
    assert (await tables.delivery())["state"] == "sent"


async def test_a_refused_recipient_leaves_the_others_of_the_batch_sent(
    tables: NotifierTables, parts: NotifierParts, server: ScriptedSmtp
) -> None:
    await planned(tables, parts, server, 1, 2, 3)
    server.rule("RCPT", reply="550 5.1.1 no such user", recipient="user2@example.org")
    await parts.send()
    assert await tables.states() == {"user:1": "sent", "user:2": "failed", "user:3": "sent"}
    (suppression,) = await tables.rows("SELECT address, delivery_id FROM taskbell.suppression")
    row = (await tables.deliveries())["user:2"]
    assert dict(suppression) == {"address": "user2@example.org", "delivery_id": row["id"]}


async def test_a_suppressed_address_gets_nothing_however_it_is_written(
    tables: NotifierTables, parts: NotifierParts, server: ScriptedSmtp
) -> None:
    await planned(tables, parts, server, 1)
    await tables.execute("UPDATE users SET email = ' User1@Example.ORG '")
    await tables.execute("INSERT INTO taskbell.suppression (address, reason) VALUES ('user1@example.org', 'gone')")
    await parts.send()
    row = await tables.delivery()
    assert (row["state"], row["reason"], row["attempts"]) == ("suppressed", "address suppressed: gone", 0)
    assert server.accepted == []


@pytest.mark.parametrize(
    ("change", "state", "reason"),
    [
        ("UPDATE tasks SET status = 'done'", "skipped", "nothing to say"),
        ("UPDATE tasks SET due_date = now() + interval '1 day'", "skipped", "nothing to say"),
        ("UPDATE users SET is_active = false", "skipped", "inactive"),
        ("UPDATE users SET is_active = NULL", "skipped", "inactive"),
        ("UPDATE tasks SET assignee_id = NULL; DELETE FROM users", "skipped", "no such user any more"),
        ("UPDATE users SET email = NULL", "failed", "no valid address"),
        ("UPDATE users SET email = 'a b@example.org'", "failed", "no valid address"),
        (
            "INSERT INTO taskbell.preference (user_id, kind, enabled) VALUES (1, 'overdue', false)",
            "skipped",
            "opted out of overdue",
        ),
    ],
)
async def test_what_changed_since_it_was_planned_counts(
    tables: NotifierTables, parts: NotifierParts, server: ScriptedSmtp, change: str, state: str, reason: str
) -> None:
    await planned(tables, parts, server)
    for statement in change.split(";"):
        await tables.execute(statement)
    await parts.send()
    row = await tables.delivery()
    assert (row["state"], row["reason"], row["attempts"]) == (state, reason, 0)
    assert row["ended_at"] is not None
    assert server.accepted == []


async def test_a_task_that_newly_matches_is_in_the_mail(
    tables: NotifierTables, parts: NotifierParts, server: ScriptedSmtp
) -> None:
    await planned(tables, parts, server)
    await tables.task(1, due=-2 * DAY, title="Newly overdue")
    await parts.send()
    assert "Newly overdue" in body_of(server)


async def test_a_person_with_very_many_tasks_is_told_of_the_first_and_how_many_there_are(
    tables: NotifierTables, parts: NotifierParts, server: ScriptedSmtp
) -> None:
    await planned(tables, parts, server)
    await tables.execute(
        "INSERT INTO tasks (id, title, status, priority, due_date, assignee_id)"
        " SELECT i, 'Many ' || i, 'pending', 'low', now() - make_interval(days => 400 - i), 1"
        " FROM generate_series(100, 399) AS i"
    )
    await parts.send()
    text = body_of(server)
    assert text.count("Many ") == 25
    assert "Many 124" in text
    assert "Many 125" not in text
    assert "and 276 more" in text  # 300 of them and the one of `planned`, less 25


async def test_what_is_loaded_for_one_person_does_not_grow_with_that_persons_tasks(tables: NotifierTables) -> None:
    await tables.user(1)
    await tables.execute(
        "INSERT INTO tasks (id, title, status, priority, due_date, assignee_id)"
        " SELECT i, 'Many', 'pending', 'low', now() - make_interval(mins => i), 1 FROM generate_series(1, 2000) AS i"
    )
    app = tables.database.app
    async with tables.database.transaction() as tx:
        overdue = (await of_users(tx, app, OVERDUE, tables.now, [1]))[1]
        weekly = (await of_users(tx, app, WEEKLY, tables.now, [1]))[1]
    assert isinstance(overdue, Found)
    assert (len(overdue.lists["tasks"].tasks), overdue.lists["tasks"].more) == (25, 1975)
    assert isinstance(weekly, Found)
    assert (len(weekly.lists["overdue"].tasks), weekly.lists["overdue"].more) == (5, 1995)
    assert weekly.counts == {"pending": 2000, "in_progress": 0, "completed": 0}


async def test_a_weekly_mail_counts_all_and_lists_the_first(
    tables: NotifierTables, parts: NotifierParts, server: ScriptedSmtp
) -> None:
    await tables.user(1)
    for number in range(7):
        await tables.task(1, due=-DAY - number * HOUR, title=f"Late{number}")
    for number in range(12):
        await tables.task(1, due=DAY + number * HOUR, title=f"Soon{number:02}", status="in_progress")
    await tables.task(1, due=-DAY, status="done", completed_at=tables.now - DAY)
    await tables.task(1, due=-DAY, status="done", completed_at=tables.now - 8 * DAY)
    await parts.plan(WeeklyDue())
    parts.add_sender(server)
    await parts.send()
    (mail,) = server.accepted
    message = email.message_from_bytes(mail.message, policy=email.policy.default)
    assert message["Subject"] == "Your week: 7 overdue, 12 due"
    text = body_of(server)
    assert [f"Late{n}" in text for n in range(7)] == [False, False, True, True, True, True, True]
    assert [f"Soon{n:02}" in text for n in range(12)] == [True] * 10 + [False] * 2


async def test_under_mail_suppress_send_everything_happens_but_the_sending(
    tables: NotifierTables, make_parts: Callable[..., NotifierParts], server: ScriptedSmtp
) -> None:
    parts = make_parts(mail_suppress_send=True)
    await planned(tables, parts, server)
    await parts.send()
    row = await tables.delivery()
    assert (row["state"], row["reason"]) == ("skipped", "MAIL_SUPPRESS_SEND is set")
    assert row["address"] == "user1@example.org"
    assert server.connections == []


async def test_a_cancelled_handler_breaks_off_no_mail(
    tables: NotifierTables, parts: NotifierParts, server: ScriptedSmtp
) -> None:
    await planned(tables, parts, server, 1, 2)
    server.rule("DOT", hold=True)
    handler = asyncio.create_task(parts.send())
    await server.until(lambda: sum(connection.messages for connection in server.connections) == 2)
    handler.cancel()
    with pytest.raises(asyncio.CancelledError):
        await handler
    server.clear()
    await tables.all_ended(2)
    assert set((await tables.states()).values()) == {"sent"}
    assert len(server.accepted) == 2


async def test_while_sending_is_paused_rows_go_back_untouched(
    tables: NotifierTables, parts: NotifierParts, server: ScriptedSmtp
) -> None:
    await planned(tables, parts, server, *range(1, 31))
    server.rule("CONNECT", reply="554 5.3.2 closed")
    await parts.send()
    rows = await tables.rows("SELECT DISTINCT state, attempts, claim FROM taskbell.delivery")
    assert [dict(row) for row in rows] == [{"state": "planned", "attempts": 0, "claim": None}]
    assert not parts.pool.breaker.status.allows_sending
    server.clear()
    await eventually(lambda: parts.pool.breaker.status.allows_sending)
    await parts.send()
    assert set((await tables.states()).values()) == {"sent"}


async def test_one_mail_that_cannot_be_made_leaves_the_others_sent(
    tables: NotifierTables, parts: NotifierParts, server: ScriptedSmtp, monkeypatch: pytest.MonkeyPatch
) -> None:
    await planned(tables, parts, server, 1, 2, 3)
    real = parts.sender._composer.write

    def breaks(draft: Any, now: Any) -> Any:
        if draft.row.user_id == 2:
            raise ZeroDivisionError
        return real(draft, now)

    monkeypatch.setattr(parts.sender._composer, "write", breaks)
    await parts.send()
    rows = await tables.deliveries()
    assert {name: row["state"] for name, row in rows.items()} == {
        "user:1": "sent",
        "user:2": "retry",
        "user:3": "sent",
    }
    assert rows["user:2"]["reason"] == "error: ZeroDivisionError"


async def test_rows_that_could_not_be_loaded_are_given_back_and_the_message_is_not_done(
    tables: NotifierTables, parts: NotifierParts, server: ScriptedSmtp, monkeypatch: pytest.MonkeyPatch
) -> None:
    await planned(tables, parts, server)
    await parts.open_gate()

    async def away(*_: Any, **__: Any) -> Any:
        raise DatabaseUnavailable("gone")

    with monkeypatch.context() as patched:
        patched.setattr(contents, "people", away)
        with pytest.raises(DatabaseUnavailable):
            await parts.send()

    async def given_back() -> bool:
        row = await tables.delivery()
        return (row["state"], row["attempts"], row["claim"]) == ("planned", 0, None)

    await eventually(given_back)


async def test_what_waits_for_its_turn_keeps_its_lease(
    tables: NotifierTables, parts: NotifierParts, server: ScriptedSmtp
) -> None:
    await planned(tables, parts, server, 1)
    rows = await parts.ledger.claim([(await tables.delivery())["id"]])
    await tables.execute("UPDATE taskbell.delivery SET lease_until = now() - interval '1 second'")
    async with tables.database.transaction() as tx:
        await deliveries.renew(tx, rows, lease=timedelta(seconds=30))
    (row,) = await tables.rows("SELECT lease_until > now() + interval '25 seconds' AS held FROM taskbell.delivery")
    assert row["held"]


async def test_nothing_is_claimed_of_a_cancelled_mailing_nor_what_is_too_late(
    tables: NotifierTables, parts: NotifierParts, server: ScriptedSmtp
) -> None:
    await planned(tables, parts, server, 1, 2)
    await tables.execute("UPDATE taskbell.delivery SET expires_at = now() WHERE user_id = 2")
    await tables.execute("UPDATE taskbell.mailing SET state = 'cancelled'")
    await parts.send()
    assert set((await tables.states()).values()) == {"planned"}


async def test_an_unknown_row_or_an_id_that_there_is_not_is_no_mistake(
    tables: NotifierTables, parts: NotifierParts, server: ScriptedSmtp
) -> None:
    await planned(tables, parts, server)
    await parts.sender.send([received(SendBatch(delivery_ids=(2**63 - 1,)))])
    assert server.connections == []


async def test_mails_of_several_mailings_in_one_message_each_say_their_own(
    tables: NotifierTables, parts: NotifierParts, server: ScriptedSmtp
) -> None:
    await tables.late_people(1)
    await tables.task(1, due=HOUR, title="Coming up")
    await parts.plan(OverdueDue(), "m1")
    await parts.plan(ReminderDue(), "m2")
    parts.add_sender(server)
    await parts.send()
    subjects = [
        email.message_from_bytes(mail.message, policy=email.policy.default)["Subject"] for mail in server.accepted
    ]
    assert sorted(subject.split(":")[0].split(" ")[0] for subject in subjects) == ["Due", "Overdue"]


@pytest.mark.parametrize("statuses", ["'pending', 'done'", "'in_progress', 'pending'"], ids=["two", "open ones"])
async def test_an_apps_own_enums_need_not_have_all_of_our_words(
    tables: NotifierTables, parts: NotifierParts, server: ScriptedSmtp, statuses: str
) -> None:
    for statement in (
        "DROP INDEX public.tasks_open_by_assignee, public.tasks_open_by_due",
        "DROP INDEX public.tasks_done_by_assignee, public.tasks_done_by_completion",
        f"CREATE TYPE public.status AS ENUM ({statuses})",
        "CREATE TYPE public.priority AS ENUM ('high', 'whenever')",
        "ALTER TABLE public.tasks ALTER COLUMN status DROP DEFAULT, ALTER COLUMN priority DROP DEFAULT,"
        " ALTER COLUMN status TYPE public.status USING CAST(status AS public.status),"
        " ALTER COLUMN priority TYPE public.priority USING CAST(priority AS public.priority),"
        " ALTER COLUMN due_date TYPE timestamp, ALTER COLUMN completed_at TYPE timestamp",
        "INSERT INTO public.users (id, name, email, is_active) VALUES (1, 'Ann', 'ann@example.org', true)",
        "INSERT INTO public.tasks (id, title, status, priority, due_date, assignee_id) VALUES"
        " (1, 'Late', 'pending', 'whenever', now() - interval '1 day', 1),"
        " (2, 'Later', 'pending', 'high', now() + interval '5 hours', 1)",
    ):
        await tables.execute(statement)
    await parts.plan(OverdueDue(), "m1")
    await parts.plan(ReminderDue(), "m2")
    await parts.plan(WeeklyDue(), "m3")
    parts.add_sender(server)
    await parts.send()
    rows = await tables.rows("SELECT kind, state FROM taskbell.delivery ORDER BY kind")
    assert [(row["kind"], row["state"]) for row in rows] == [
        ("overdue", "sent"),
        ("reminder", "sent"),
        ("weekly", "sent"),
    ]
    async with tables.database.transaction() as tx:
        row = await user_status(tx, tables.database.app, 1, MAILINGS, await now(tx))
    assert row is not None
    assert (row.open, row.found) == (2, [1, 1, 2])


@pytest.mark.parametrize("due", ["-infinity", "4000-01-01 BC", "0001-01-01Z"])
async def test_a_due_date_that_no_calendar_of_ours_has_stops_nobodys_mail(
    tables: NotifierTables, parts: NotifierParts, server: ScriptedSmtp, due: str
) -> None:
    await tables.late_people(1, 2)
    await tables.execute(
        "UPDATE public.tasks SET due_date = CAST(:due AS text)::timestamptz WHERE assignee_id = 2", due=due
    )
    await tables.execute("UPDATE public.tasks SET completed_at = 'infinity' WHERE assignee_id = 1")
    await parts.plan()
    parts.add_sender(server)
    await parts.send()
    assert await tables.states() == {"user:1": "sent", "user:2": "sent"}


async def test_what_cannot_be_read_of_one_person_leaves_the_others_of_the_batch_sent(
    tables: NotifierTables, parts: NotifierParts, server: ScriptedSmtp, monkeypatch: pytest.MonkeyPatch
) -> None:
    await planned(tables, parts, server, 1, 2, 3, 4, 5)
    real = contents.of_users

    async def breaks(tx: Any, app: Any, kind: Any, at: Any, users: Any, event: Any) -> Any:
        if 4 in users:
            raise OverflowError("date value out of range")
        return await real(tx, app, kind, at, users, event)

    monkeypatch.setattr(contents, "of_users", breaks)
    await parts.send()

    async def given_up_for_now() -> bool:
        return (await tables.states())["user:4"] == "retry"

    await eventually(given_up_for_now)
    states = await tables.states()
    assert {name for name, state in states.items() if state == "sent"} == {"user:1", "user:2", "user:3", "user:5"}
    assert (await tables.deliveries())["user:4"]["reason"] == "error: OverflowError"


async def test_no_mail_of_a_cancelled_mailing_begins_though_its_rows_are_claimed_and_in_memory(
    tables: NotifierTables, parts: NotifierParts, server: ScriptedSmtp
) -> None:
    """Two mails are before their marker when the mailing is cancelled, and the others of the batch wait for them."""
    await planned(tables, parts, server, *range(1, 21))
    held = server.rule("DATA", hold=True)
    sending = asyncio.create_task(parts.send())
    await eventually(lambda: held.seen >= 2)
    await tables.execute("UPDATE taskbell.mailing SET state = 'cancelled'")
    server.clear()
    await sending
    assert server.accepted == []
    assert set((await tables.states()).values()) == {"skipped"}
    assert {row["reason"] for row in (await tables.deliveries()).values()} == {"mailing cancelled"}
    assert {row["attempts"] for row in (await tables.deliveries()).values()} == {0}
    begun = sum(connection.received.count(b"MAIL FROM") for connection in server.connections)
    assert begun <= 6, "each session, and those that waited for one"
    assert parts.metrics.outcomes_lost._value.get() == 0


async def test_a_mail_that_had_begun_when_its_mailing_was_cancelled_ends_as_the_server_says(
    tables: NotifierTables, parts: NotifierParts, server: ScriptedSmtp
) -> None:
    await planned(tables, parts, server, *range(1, 7))
    held = server.rule("DOT", hold=True)
    sending = asyncio.create_task(parts.send())
    await eventually(lambda: held.seen == 2)
    await tables.execute("UPDATE taskbell.mailing SET state = 'cancelled'")
    server.clear()
    await sending
    assert len(server.accepted) == 2
    assert sorted((await tables.states()).values()) == ["sent"] * 2 + ["skipped"] * 4
