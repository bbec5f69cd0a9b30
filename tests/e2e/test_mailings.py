"""Mailings from the event to the inbox: exactly the people who have something to be told get one mail each."""

import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.support.inbox import ReceivedMail
from tests.support.installation import APP_URL, Installation
from tests.support.waiting import eventually

from taskbell_devstack import demo_data
from taskbell_devstack.demo_data import PEOPLE, DemoTask

DAY = timedelta(days=1)
OPEN = {"pending", "in_progress"}
KINDS = ("reminder", "overdue", "weekly")


async def publish(installation: Installation, kind: str, body: Any = "{}") -> dict[str, int]:
    """Publish a mailing's event as a person would, by hand; returns the counts of its completion."""
    listener = await installation.management.listen("taskbell.events", "mailing.completed")
    assert await installation.management.publish("taskbell.events", f"{kind}.due", body)

    async def completed() -> Any:
        installation.check_running()
        return await installation.management.take(listener)

    (message,) = await eventually(completed, what=f"completion of the {kind} mailing")
    assert message.json()["kind"] == kind
    return dict(message.json()["counts"])


def people_told(mails: list[ReceivedMail]) -> Counter[str]:
    """How many mails went to whom."""
    return Counter(mail.recipient for mail in mails)


def tasks_named(mail: ReceivedMail) -> set[int]:
    """The ids of the tasks that the mail's text links to."""
    return {int(it) for it in re.findall(re.escape(APP_URL) + r"/tasks/(\d+)", mail.text())}


def expected_tasks(tasks: list[DemoTask], now: datetime) -> dict[str, dict[int, set[int]]]:
    """By kind and person, the tasks that the mail is to name (no person has more than a mail lists)."""
    expected: dict[str, dict[int, set[int]]] = {kind: {} for kind in KINDS}
    for person in (it for it in PEOPLE if it.is_active):
        mine = [it for it in tasks if it.assignee_id == person.id and it.status in OPEN]
        dated = sorted((it.due_date, it.id) for it in mine if it.due_date is not None)
        overdue = [id_ for due, id_ in dated if due < now]
        soon = [id_ for due, id_ in dated if now <= due < now + DAY]
        week = [id_ for due, id_ in dated if now <= due < now + 7 * DAY]
        finished = [
            it for it in tasks if it.assignee_id == person.id and it.completed_at and it.completed_at >= now - 7 * DAY
        ]
        if soon:
            expected["reminder"][person.id] = set(soon)
        if overdue:
            expected["overdue"][person.id] = set(overdue)
        if mine or finished:
            expected["weekly"][person.id] = set(overdue[:5]) | set(week[:10])
    return expected


def person(id_: int, zone: str | None = "UTC", **changes: Any) -> dict[str, Any]:
    columns = {"id": id_, "name": f"Person {id_}", "email": f"{id_}@example.org", "timezone": zone}
    return {**columns, "locale": "en", "is_active": True, **changes}


def overdue_task(id_: int, assignee: int) -> dict[str, Any]:
    due = datetime.now(UTC) - DAY
    columns = {"id": id_, "title": f"Task {id_}", "status": "pending", "priority": "medium", "due_date": due}
    return {**columns, "assignee_id": assignee}


@pytest.mark.parametrize("kind", KINDS)
async def test_exactly_those_with_something_to_be_told_get_one_mail_that_names_their_tasks(
    installation: Installation, kind: str
) -> None:
    now = datetime.now(UTC)
    await demo_data.load(installation.database_url, now)
    expected = expected_tasks(demo_data.tasks(now), now)[kind]
    addresses = {person.email: person.id for person in PEOPLE}

    completed = await publish(installation, kind)

    mails = installation.inbox.mails
    assert people_told(mails) == Counter({it.email: 1 for it in PEOPLE if it.id in expected})
    assert {addresses[mail.recipient]: tasks_named(mail) for mail in mails} == expected
    assert completed["sent"] == len(expected)


@pytest.mark.parametrize("kind", KINDS)
async def test_publishing_again_mails_nobody(installation: Installation, kind: str) -> None:
    await demo_data.load(installation.database_url, datetime.now(UTC))
    first = await publish(installation, kind)
    mailed = len(installation.inbox.mails)

    second = await publish(installation, kind)

    assert first["sent"] == mailed > 0
    assert second["sent"] == 0
    assert second["already"] == mailed
    assert len(installation.inbox.mails) == mailed


async def test_force_and_user_ids_mail_only_those_again(installation: Installation) -> None:
    await demo_data.load(installation.database_url, datetime.now(UTC))
    await publish(installation, "overdue")
    installation.inbox.mails.clear()

    # 12 has nothing to be told, and 11 is inactive: force does not change that.
    completed = await publish(installation, "overdue", {"user_ids": [3, 5, 11, 12], "force": True})

    assert people_told(installation.inbox.mails) == Counter({"claire@example.org": 1, "lucia@example.org": 1})
    assert completed["sent"] == 2


async def test_an_empty_list_of_people_mails_nobody(installation: Installation) -> None:
    await demo_data.load(installation.database_url, datetime.now(UTC))
    completed = await publish(installation, "overdue", {"user_ids": [], "force": True})
    assert completed["sent"] == 0
    assert installation.inbox.mails == []


async def test_people_whose_zone_nobody_knows_are_mailed_by_ours_and_stop_nobody(installation: Installation) -> None:
    zones = {1: "UTC", 2: "Foo/Bar", 3: "", 4: None, 5: "Europe/Berlin", 6: "localtime"}
    await installation.insert("users", [person(id_, zone) for id_, zone in zones.items()])
    await installation.insert("tasks", [overdue_task(100 + id_, id_) for id_ in zones])

    await publish(installation, "overdue")
    assert people_told(installation.inbox.mails) == Counter({f"{id_}@example.org": 1 for id_ in zones})
    installation.inbox.mails.clear()

    # Limited to our zone (TIMEZONE is UTC here), those of unknown zones are among its people.
    await publish(installation, "overdue", {"timezone": "UTC", "force": True})
    assert people_told(installation.inbox.mails) == Counter({f"{id_}@example.org": 1 for id_ in (1, 2, 3, 4, 6)})


async def test_whoever_unsubscribes_gets_no_more_of_that_kind(installation: Installation) -> None:
    await installation.insert("users", [person(1), person(2)])
    await installation.insert("tasks", [overdue_task(101, 1), overdue_task(102, 2)])
    await publish(installation, "overdue")
    (mail,) = installation.inbox.to("1@example.org")
    link = str(mail.message["List-Unsubscribe"]).strip("<>")
    assert mail.message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"

    assert await installation.ask("GET", link) == 200  # as a scanner does; changes nothing
    await publish(installation, "overdue", {"force": True})
    assert people_told(installation.inbox.mails)["1@example.org"] == 2

    assert await installation.ask("POST", link) == 200
    await publish(installation, "overdue", {"force": True})
    assert people_told(installation.inbox.mails) == Counter({"1@example.org": 2, "2@example.org": 3})
    await publish(installation, "weekly")
    assert people_told(installation.inbox.mails)["1@example.org"] == 3


async def test_an_event_that_makes_no_sense_is_dead_lettered_with_its_reason(installation: Installation) -> None:
    await installation.insert("users", [person(1)])
    await installation.insert("tasks", [overdue_task(101, 1)])
    assert await installation.management.publish("taskbell.events", "overdue.due", '{"user_ids": "everybody"}')

    async def dead() -> Any:
        return await installation.management.take("notifier.dead")

    (dead_letter,) = await eventually(dead, what="the dead letter")
    assert dead_letter.body == b'{"user_ids": "everybody"}'
    assert "user_ids" in dead_letter.headers["x-taskbell-reason"]
    assert dead_letter.headers["x-taskbell-queue"] == "notifier.overdue_due"
    await publish(installation, "overdue")
    assert people_told(installation.inbox.mails) == Counter({"1@example.org": 1})
