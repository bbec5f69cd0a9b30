"""What the version before this one has begun, this one ends: on its database and queues, with work of every kind.

The former version sets everything up, works, and is killed in the middle (tests/upgrade/work.py). A quarter of an hour
later, by the database's clock, the present one's setup runs, then its services (tests/upgrade/upgraded.py).
"""

import json
import re
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import pytest_asyncio

from tests.support.servers import ServerUrls
from tests.support.waiting import eventually
from tests.upgrade.installation import COMMANDS, EVENTS, OPERATORS
from tests.upgrade.upgraded import LATER, Upgraded, upgraded_with_work_under_way
from tests.upgrade.versions import Version
from tests.upgrade.work import (
    BROKEN,
    FINISHED,
    INVALID,
    MINUTE,
    MORNING,
    NOTE,
    OLD,
    PAUSED,
    PEOPLE,
    REMINDED,
    RUNNING,
    STATUS,
    TOLD_LATER,
    WEEKLY,
    parsed,
)

IN_DOUBT = {("unknown", None), ("sending", "data")}
"""Where the server may have a mail of which the ledger does not know that it was sent."""


@pytest_asyncio.fixture(scope="module")
async def upgraded(
    servers: ServerUrls, former: Version, present: Version, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Upgraded]:
    folder = tmp_path_factory.mktemp("upgrade")
    async with upgraded_with_work_under_way(servers, former, present, folder) as upgraded:
        yield upgraded


def test_every_recipient_has_one_mail_and_those_left_in_doubt_one_resend_of_the_same(upgraded: Upgraded) -> None:
    left, rows = upgraded.left, upgraded.deliveries
    doubted = {number for number, row in left.deliveries.items() if (row["state"], row["phase"]) in IN_DOUBT}
    taken = Counter(mail.message_id for mail in upgraded.mails)
    assert taken == {
        row["mail_message_id"]: 1 + (number in doubted and left.taken[row["mail_message_id"]])
        for number, row in rows.items()
        if row["state"] == "sent"
    }
    assert {number for number, row in rows.items() if row["resends"]} == doubted
    assert {row["resends"] for row in rows.values()} == {0, 1}
    assert {number for number in doubted if left.taken[rows[number]["mail_message_id"]]}, "no mail was in the data"
    addressed = {(mail.message_id, mail.recipients) for mail in upgraded.mails}
    assert len(addressed) == len(taken), "a Message-ID went to two addresses"


def test_message_ids_of_rows_from_before_have_their_old_form_and_stay_once_they_are_stored(upgraded: Upgraded) -> None:
    for number, row in upgraded.deliveries.items():
        assert (row["message_token"] is None) == (number in upgraded.left.deliveries)
        token = "" if row["message_token"] is None else f".{row['message_token']}"
        assert row["mail_message_id"] == f"<{row['kind']}.{number}{token}@example.org>"
    for number, row in upgraded.left.deliveries.items():
        if row["mail_message_id"] is not None:
            assert upgraded.deliveries[number]["mail_message_id"] == row["mail_message_id"]


def test_each_mailing_reaches_whom_it_is_for(upgraded: Upgraded) -> None:
    sent: dict[str, set[int | None]] = {}
    for row in upgraded.deliveries.values():
        sent.setdefault(f"{row['kind']} {row['state']}", set()).add(row["user_id"])
    refused = {number for number in range(1, PEOPLE + 1) if number % 20 == 4}
    before = {row["user_id"] for row in upgraded.left.deliveries.values() if row["state"] == "failed"}
    assert before <= refused
    assert sent == {
        "overdue sent": set(range(1, PEOPLE + 1)) - before,
        "overdue failed": before,
        "weekly sent": set(WEEKLY),
        "reminder sent": set(REMINDED),
        "report sent": {None},
        "test sent": {None},
    }


def former_commands(upgraded: Upgraded) -> dict[str, dict[str, Any]]:
    """The commands that had ended, as they are to stay; the former version wrote no digest."""
    return {number: {**row, "digest": None} for number, row in upgraded.left.commands.items()}


def test_what_had_ended_stays_as_it_was(upgraded: Upgraded) -> None:
    ended = {number: row for number, row in upgraded.left.deliveries.items() if row["ended_at"] is not None}
    assert {row["state"] for row in ended.values()} == {"sent", "failed"}
    # The former version had no such column.
    rows = {number: {**row, "message_token": None} for number, row in ended.items()}
    assert {number: upgraded.deliveries[number] for number in ended} == rows
    assert former_commands(upgraded).items() <= upgraded.commands.items()


async def test_each_mailing_is_told_of_as_completed_once_with_its_counts(upgraded: Upgraded) -> None:
    rows = await upgraded.installation.rows("SELECT id, message_id FROM taskbell.mailing")
    names = {row["id"]: row["message_id"] for row in rows}
    told = [
        (names[it["mailing_id"]], it["counts"]) for it in (event.json() for event in upgraded.told("mailing.completed"))
    ]
    none = dict.fromkeys(("sent", "skipped", "suppressed", "expired", "failed", "already"), 0)
    failed = sum(row["state"] == "failed" for row in upgraded.left.deliveries.values())
    assert [it for it in told if it[0] == "overdue mailing"] == [
        ("overdue mailing", none | {"sent": PEOPLE - failed, "failed": failed})
    ]
    assert [it for it in told if it[0] == "weekly mailing"] == [("weekly mailing", none | {"sent": len(WEEKLY)})]
    assert [it for it in told if it[0] == "reminders"] == [("reminders", none | {"sent": len(REMINDED)})]


async def test_every_command_takes_effect_once_and_has_one_outcome(upgraded: Upgraded) -> None:
    ended = {message_id: row for message_id, row in upgraded.commands.items() if message_id in LATER}
    assert {message_id: (row["state"], json.loads(row["result"])["task_id"]) for message_id, row in ended.items()} == {
        message_id: ("done", task) for message_id, task in LATER.items()
    }
    again = {f"retried-{BROKEN}": 2}
    assert {(row["routing_key"], row["attempts"] - again.get(it, 1)) for it, row in ended.items()} == {(STATUS, 0)}
    told = Counter(event.json()["task_id"] for event in upgraded.told("task.status_changed"))
    assert told == dict.fromkeys([*LATER.values(), TOLD_LATER], 1)
    query = "SELECT id FROM tasks WHERE status = 'in_progress' ORDER BY id"
    started = {row["id"] for row in await upgraded.installation.rows(query)}
    assert started == {*LATER.values(), FINISHED["done"][1]["task_id"], TOLD_LATER}
    assert set(upgraded.commands) == {*LATER, *FINISHED, INVALID[0]}


async def test_a_command_that_the_former_version_ended_is_answered_with_its_outcome(upgraded: Upgraded) -> None:
    installation, before = upgraded.installation, len(upgraded.installation.server.accepted)
    await installation.management.call("PUT", "/queues/{vhost}/reply.upgrade", {"durable": True})
    for message_id, (key, body) in FINISHED.items():
        await installation.publish(COMMANDS, key, body, message_id, reply_to="reply.upgrade")
    replies: dict[str, dict[str, Any]] = {}

    async def all_answered() -> bool:
        replies.update(
            (it.json()["message_id"], it.json()) for it in await installation.management.take("reply.upgrade")
        )
        return len(replies) == len(FINISHED)

    await eventually(all_answered, what="an answer to each command")
    for message_id, reply in replies.items():
        stored = upgraded.left.commands[message_id]
        assert reply["state"] == stored["state"]
        assert reply.get("result") == (stored["result"] and json.loads(stored["result"]))
        assert reply.get("reason") == stored["reason"]
    assert former_commands(upgraded).items() <= (await installation.commands()).items()
    assert len(installation.server.accepted) == before


async def test_every_event_that_waited_is_published_once(upgraded: Upgraded) -> None:
    told = Counter(event.properties["message_id"] for event in upgraded.events)
    assert set(told.values()) == {1}
    query = "SELECT message_id FROM taskbell.outbox WHERE routing_key !~ '^(maintenance|notifier)'"
    events = {row["message_id"] for row in await upgraded.installation.rows(query)}
    assert upgraded.left.unpublished & events <= set(told)
    assert len(upgraded.left.unpublished & events) >= 4, "of the scheduler, maintenance and the app"


async def test_the_dead_letter_lies_where_it_was(upgraded: Upgraded) -> None:
    message_id, body = INVALID
    (letter,) = await upgraded.installation.management.take("maintenance.dead")
    assert letter.body == body.encode()
    assert letter.properties["message_id"] == message_id
    assert letter.headers["x-taskbell-queue"] == STATUS
    assert letter.headers["x-taskbell-reason"] == upgraded.commands[message_id]["reason"]


async def test_a_schedule_goes_on_where_the_former_version_had_come_to(upgraded: Upgraded) -> None:
    query = "SELECT at, status, message_id FROM taskbell.occurrence WHERE schedule = $1 ORDER BY at"
    rows = await upgraded.installation.rows(query, RUNNING)
    assert [row["at"] for row in rows] == [MORNING + (number - 4) * MINUTE for number in range(len(rows))]
    statuses = "".join(f"{row['status']} " for row in rows)
    assert re.fullmatch("(missed ){4,}(published )+(missed ){5,}(published )+", statuses)
    published = [row["message_id"] for row in rows if row["status"] == "published"]
    told = [event.properties["message_id"] for event in upgraded.told("overdue.due")]
    assert len(told) >= 2
    assert told == published[: len(told)]


async def test_a_paused_schedule_stays_paused(upgraded: Upgraded) -> None:
    states = {(it["schedule"], it["zone"]): it for it in await upgraded.taskbell("schedules", "status")}
    assert (states[PAUSED, "*"]["paused"], states[PAUSED, "*"]["note"]) == (True, NOTE)
    assert not states[RUNNING, "UTC"]["paused"]
    assert upgraded.told("weekly.due") == []


async def test_the_unsubscribe_link_of_a_former_mail_ends_the_subscription(upgraded: Upgraded) -> None:
    installation, mail = upgraded.installation, upgraded.left.mail
    person = int(str(mail["To"]).partition("@")[0].rpartition("person")[2])
    path = urlsplit(str(mail["List-Unsubscribe"]).strip("<>")).path
    (notifier,) = (it for it in installation.processes.of("notifier") if it.ready)
    async with httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(notifier.url + path)).status_code == 200
        assert (await client.post(notifier.url + path)).status_code == 200
    before = len(installation.server.accepted)
    await installation.publish(
        EVENTS, "overdue.due", {"user_ids": [person, person + 1], "force": True}, "after unsubscribing"
    )
    await installation.mailing("after unsubscribing")
    assert [mail.recipients for mail in installation.server.accepted[before:]] == [(f"person{person + 1}@example.org",)]


@pytest.mark.parametrize(
    ("kind", "people"), [("overdue", range(1, PEOPLE + 1)), ("weekly", WEEKLY), ("reminder", REMINDED)]
)
async def test_who_has_had_a_mail_of_the_former_version_gets_no_second_one(
    upgraded: Upgraded, kind: str, people: range
) -> None:
    installation, before = upgraded.installation, len(upgraded.installation.server.accepted)
    await installation.publish(EVENTS, f"{kind}.due", {"user_ids": list(people)}, f"{kind} again")
    counts = await installation.mailing(f"{kind} again")
    assert counts["already"] == len(people)
    assert sum(counts.values()) == len(people)
    assert len(installation.server.accepted) == before


async def test_the_ledger_of_the_former_version_tells_why(upgraded: Upgraded) -> None:
    failed = next(row for row in upgraded.left.deliveries.values() if row["state"] == "failed")
    said = await upgraded.installation.taskbell(upgraded.present, "mail", "why", "--user", str(failed["user_id"]))
    for words in ("failed", "RCPT: 550 5.7.1 not here", MORNING.date().isoformat()):
        assert words in said.out
    (mailing,) = await upgraded.taskbell("mail", "mailings", "overdue mailing")
    assert (mailing["state"], mailing["planned"]) == ("completed", PEOPLE)


async def test_a_mail_to_a_person_of_the_former_version_is_shown(upgraded: Upgraded) -> None:
    shown = await upgraded.installation.taskbell(upgraded.present, "mail", "preview", "overdue", "--user", "5")
    assert "Late 5" in shown.out


def test_a_report_that_the_former_version_stored_is_mailed(upgraded: Upgraded) -> None:
    (mail,) = (mail for mail in upgraded.mails if OPERATORS in mail.recipients)
    assert mail.message_id not in upgraded.left.taken
    assert f"{PEOPLE} overdue" in str(parsed(mail)["Subject"])


async def test_tasks_that_the_former_version_archived_come_back(upgraded: Upgraded) -> None:
    batch = json.loads(upgraded.left.commands["cleanup"]["result"])["batch_id"]
    done = await upgraded.taskbell("archive", "restore", str(batch))
    assert done["restored"] == len(OLD)
    query = """
        SELECT t.id, t.title, t.status, t.completed_at = (a.row ->> 'completed_at')::timestamptz AS same
        FROM tasks AS t JOIN taskbell.archived_task AS a ON a.task_id = t.id ORDER BY t.id
    """
    rows = [tuple(row.values()) for row in await upgraded.installation.rows(query)]
    assert rows == [(it, f"Old {it}", "done", True) for it in OLD]


async def test_stored_outcomes_are_shown(upgraded: Upgraded) -> None:
    found = await upgraded.taskbell("commands", "show", "cleanup")
    assert (found["state"], found["result"]["tasks"]) == ("done", len(OLD))


def test_no_service_complains(upgraded: Upgraded) -> None:
    for process in upgraded.installation.processes.all:
        if process.ready:
            errors = [line for line in process.log.read_text().splitlines() if '"level": "error"' in line]
            assert errors == []
