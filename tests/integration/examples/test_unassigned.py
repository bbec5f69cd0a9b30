"""examples/unassigned: a mailing of a package's own, with the rights of its services and no more."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest_asyncio
from tests.integration.examples.installed import HOUR, Examples, examples_installed
from tests.support.installation import APP_URL
from tests.support.packages import Packages
from tests.support.servers import ServerUrls
from tests.support.waiting import eventually

KEY = "unassigned.due"
TO_SUPPORT = {"team": "support"}
GRANT = ("--grant", "taskbell-unassigned")

SCHEDULE = """
[[schedule]]
name = "unassigned-tasks"
cron = "* * * * *"
timezone = "UTC"
publish = "unassigned.due"
payload = {team = "support"}
catch_up = "1h"
description = "The support team is told of tasks that nobody is assigned to"
"""


@pytest_asyncio.fixture(scope="module")
async def installed(servers: ServerUrls, site: Packages) -> AsyncIterator[Examples]:
    """The notifier runs; setup has declared the package's queue, and granted nothing."""
    async with examples_installed(servers, site.path) as examples:
        assert "left out: package taskbell-unassigned 0.1.0" in await examples.set_up()
        await examples.start("notifier")
        yield examples


@pytest_asyncio.fixture(scope="module")
async def granted(installed: Examples) -> Examples:
    said = await installed.set_up(*GRANT)
    assert "taskbell_notifier may SELECT (user_id, team) on public.team_members" in said
    return installed


@pytest_asyncio.fixture
async def examples(granted: Examples) -> Examples:
    """All is granted; people, tasks and mails of other tests are gone."""
    await granted.clear()
    return granted


async def test_until_it_is_granted_its_mailing_waits_alone_and_readiness_says_what_to_do(installed: Examples) -> None:
    await installed.member(1)
    await installed.task(1, "Answer the auditors")
    await installed.task(2, "Late", assignee_id=1, due_date=installed.now - HOUR)
    await installed.publish(KEY, TO_SUPPORT, "waits")

    async def told() -> Any:
        return (await installed.readiness())["parts"].get("planner of unassigned")

    assert await eventually(told) == {
        "state": "degraded",
        "detail": "PostgreSQL refuses the statement that says who gets unassigned mails: permission denied for table "
        "team_members; `taskbell setup --grant taskbell-unassigned` grants what package taskbell-unassigned asks for",
    }
    assert await installed.mailed("overdue.due", {}, "goes out") == {"sent": 1}
    denied = await installed.taskbell("mail", "preview", "unassigned", "--user", "1", "--event", '{"team": "support"}')
    assert "`taskbell setup --grant taskbell-unassigned` grants" in denied.err
    await installed.set_up(*GRANT)
    assert await installed.completed("waits", limit=60) == {"sent": 1}
    await eventually(lambda: _is_ready(installed))


async def _is_ready(examples: Examples) -> bool:
    return bool((await examples.readiness())["status"] == "ready")


async def test_the_team_and_nobody_else_is_told_of_the_tasks_that_nobody_has(examples: Examples) -> None:
    await examples.member(1, name="Ada")
    await examples.member(2, "sales")
    await examples.user(3)
    await examples.task(10, "Answer the auditors", priority="urgent")
    await examples.task(11, "Taken", assignee_id=2)
    await examples.task(12, "Done", status="done")
    for number in range(20, 31):
        await examples.task(number, f"Task {number}", due_date=None)
    assert await examples.mailed(KEY, TO_SUPPORT, "m1") == {"sent": 1}
    (mail,) = examples.installation.inbox.mails
    assert mail.recipient == "1@example.org"
    assert mail.message["Subject"] == "12 tasks are unassigned"
    assert str(mail.message["List-Id"]).startswith("<unassigned.taskbell.")
    for form in ("plain", "html"):
        text = mail.text(form)
        assert "Nobody has taken on these tasks yet." in text
        assert "Answer the auditors" in text
        assert "Urgent · Pending" in text
        assert f"{APP_URL}/tasks/10" in text
        assert "and 2 more" in text
        assert "your team takes on tasks that nobody is assigned to" in text
        assert "Unsubscribe from unassigned tasks" in text
        assert not {"Taken", "Done"} & set(text.split())
    assert await examples.mailed(KEY, TO_SUPPORT, "m2") == {"already": 1}
    assert await examples.mailed(KEY, {"team": "sales"}, "m3") == {"sent": 1}


async def test_its_mails_are_counted_by_kind_and_state(examples: Examples) -> None:
    planned = await examples.metric("taskbell_mails_planned_total", kind="unassigned")
    sent = await examples.metric("taskbell_mails_total", kind="unassigned", state="sent")
    for number in (1, 2, 3):
        await examples.member(number)
    await examples.task(1, "One")
    assert await examples.mailed(KEY, TO_SUPPORT, "m1") == {"sent": 3}
    assert await examples.metric("taskbell_mails_planned_total", kind="unassigned") == planned + 3
    assert await examples.metric("taskbell_mails_total", kind="unassigned", state="sent") == sent + 3


async def test_a_schedule_publishes_its_event(examples: Examples, tmp_path: Path) -> None:
    await examples.member(1)
    await examples.task(1, "One")
    (tmp_path / "schedules.toml").write_text(SCHEDULE)
    assert "no mistakes" in (await examples.said("schedules", "check", str(tmp_path / "schedules.toml"))).lower()
    state = {"schedule": "unassigned-tasks", "zone": "UTC", "cron": "* * * * *"}
    position = {"position": examples.now - timedelta(minutes=2)}
    await examples.installation.insert("taskbell.schedule_state", [state | position])
    await examples.start("scheduler", SCHEDULES_FILE=str(tmp_path / "schedules.toml"))
    try:
        (mail,) = await examples.installation.inbox.wait_for(1)
    finally:
        await examples.installation.stop("scheduler")
    assert mail.message["Subject"] == "1 task is unassigned"
    props = await examples.installation.rows("SELECT DISTINCT props::text AS props FROM taskbell.mailing")
    assert props == [{"props": '{"event": {"team": "support"}}'}]


async def test_the_operators_commands_know_it(examples: Examples) -> None:
    await examples.member(1, name="Ada")
    await examples.member(2, "sales")
    await examples.task(10, "Answer the auditors")
    listed = await examples.said("messages")
    assert any({KEY, "taskbell-unassigned"} <= set(line.split()) for line in listed.splitlines())
    assert (await examples.said("mail", "preview", "unassigned")).startswith("Subject: 2 tasks are unassigned\n")
    as_ada = ("mail", "preview", "unassigned", "--user", "1", "--event", '{"team": "support"}')
    shown = await examples.said(*as_ada)
    assert shown.startswith("Subject: 1 task is unassigned\n\nHello Ada,\n")
    missing = await examples.taskbell("publish", KEY, "{}")
    assert missing.err.startswith("taskbell: unassigned.due: team: Field required.")
    published = (await examples.said("publish", KEY, '{"team": "support"}')).strip()
    assert await examples.completed(published) == {"sent": 1}
    why = await examples.said("mail", "why", "--user", "1")
    assert ["unassigned" in line.split() for line in why.splitlines() if "user:1" in line] == [True]
    assert "Who gets unassigned mails depends on the event" in why
    assert "unassigned" in await examples.said("mail", "mailings", published)


async def test_who_unsubscribes_by_the_link_gets_no_more_of_them_and_all_others(examples: Examples) -> None:
    for number in (1, 2):
        await examples.member(number)
    await examples.task(1, "One")
    await examples.task(2, "Late", assignee_id=1, due_date=examples.now - HOUR)
    await examples.mailed(KEY, TO_SUPPORT, "m1")
    (mail,) = examples.installation.inbox.to("1@example.org")
    assert mail.message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert await examples.installation.ask("GET", examples.link(mail)) == 200
    assert await examples.mailed(KEY, TO_SUPPORT | {"force": True}, "m2") == {"sent": 2}
    assert await examples.installation.ask("POST", examples.link(mail)) == 200
    assert await examples.mailed(KEY, TO_SUPPORT | {"force": True}, "m3") == {"sent": 1, "skipped": 1}
    assert (await examples.reasons("unassigned"))["user:1"] == ("skipped", "opted out of unassigned")
    assert await examples.mailed("overdue.due", {}, "m4") == {"sent": 1}


async def test_a_mail_that_the_server_does_not_take_now_is_tried_again(examples: Examples) -> None:
    await examples.member(1)
    await examples.task(1, "One")
    examples.installation.inbox.refusals["1@example.org"] = ["450 4.2.1 later"]
    await examples.publish(KEY, TO_SUPPORT, "m1")
    await eventually(lambda: _waits_for_a_retry(examples))
    assert "is tried next at" in await examples.said("mail", "why", "--user", "1")
    await examples.retry_now()
    assert await examples.completed("m1") == {"sent": 1}
    assert len(examples.installation.inbox.mails) == 1


async def _waits_for_a_retry(examples: Examples) -> bool:
    return await examples.reasons("unassigned") == {"user:1": ("retry", "RCPT: 450 4.2.1 later")}


async def test_what_keeps_mail_from_people_keeps_this_from_them(examples: Examples) -> None:
    insert = examples.installation.insert
    await examples.member(1)
    await examples.member(2, is_active=False)
    await examples.member(3)
    await examples.member(4)
    await examples.member(5, email="nowhere")
    await examples.member(6)
    await examples.task(1, "One")
    await insert("taskbell.preference", [{"user_id": 3, "kind": "unassigned", "enabled": False}])
    await insert("taskbell.suppression", [{"address": "4@example.org", "reason": "550 5.1.1 gone"}])
    examples.installation.inbox.refusals["6@example.org"] = ["550 5.1.1 no such user"]
    counts = await examples.mailed(KEY, TO_SUPPORT, "m1")
    assert counts == {"sent": 1, "skipped": 1, "suppressed": 1, "failed": 2}
    assert await examples.reasons("unassigned") == {
        "user:1": ("sent", "message: 250 OK"),
        "user:3": ("skipped", "opted out of unassigned"),
        "user:4": ("suppressed", "address suppressed: 550 5.1.1 gone"),
        "user:5": ("failed", "no valid address"),
        "user:6": ("failed", "RCPT: 550 5.1.1 no such user"),
    }
    assert await examples.installation.value("SELECT count(*) FROM taskbell.suppression") == 2


async def test_a_mail_that_is_no_longer_worth_sending_expires(examples: Examples) -> None:
    await examples.member(1)
    await examples.task(1, "One")
    long_ago = {"occurrence": (examples.now - 13 * HOUR).isoformat(), "timezone": "UTC"}
    assert await examples.mailed(KEY, TO_SUPPORT | long_ago, "m1") == {}
    (told,) = await examples.installation.rows("SELECT note FROM taskbell.mailing")
    assert told == {"note": "came after its expiry: nobody was planned"}
    examples.installation.inbox.refusals["1@example.org"] = ["450 4.2.1 later"]
    await examples.publish(KEY, TO_SUPPORT, "m2")
    await eventually(lambda: _waits_for_a_retry(examples))
    await examples.installation.rows("UPDATE taskbell.delivery SET expires_at = now(), due_at = now()")
    assert await examples.completed("m2") == {"expired": 1}
    (reason,) = [reason for _, reason in (await examples.reasons("unassigned")).values()]
    assert reason is not None
    assert reason.startswith("not sent in time; ")


async def test_who_has_left_the_team_meanwhile_has_nothing_to_be_told(examples: Examples) -> None:
    await examples.member(1)
    await examples.task(1, "One")
    examples.installation.inbox.refusals["1@example.org"] = ["450 4.2.1 later"]
    await examples.publish(KEY, TO_SUPPORT, "m1")
    await eventually(lambda: _waits_for_a_retry(examples))
    await examples.installation.rows("DELETE FROM public.team_members")
    await examples.retry_now()
    assert await examples.completed("m1") == {"skipped": 1}
    assert await examples.reasons("unassigned") == {"user:1": ("skipped", "nothing to say")}
