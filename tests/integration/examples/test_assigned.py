"""examples/assigned: a mail that an event asks for, once for each key that the web app gives it."""

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from tests.integration.examples.installed import HOUR, Examples, examples_installed
from tests.support.installation import APP_URL
from tests.support.packages import Packages
from tests.support.servers import ServerUrls
from tests.support.waiting import eventually

KEY = "task.assigned"


@pytest_asyncio.fixture(scope="module")
async def installed(servers: ServerUrls, site: Packages) -> AsyncIterator[Examples]:
    """Notifier and maintenance run; maintenance relays what the web app enqueues."""
    async with examples_installed(servers, site.path) as examples:
        await examples.set_up("--grant", "taskbell-assigned")
        await examples.start("notifier", "maintenance")
        yield examples


@pytest_asyncio.fixture
async def examples(installed: Examples) -> Examples:
    """Ada, who is assigned task 10; people, tasks and mails of other tests are gone."""
    await installed.clear()
    await installed.user(1, name="Ada")
    await installed.task(10, "Answer the auditors", assignee_id=1)
    return installed


def event(key: str, **fields: Any) -> dict[str, Any]:
    return {"user_id": 1, "task_id": 10, "key": key} | fields


async def test_the_user_whom_the_event_names_is_told_of_the_task(examples: Examples) -> None:
    assert await examples.mailed(KEY, event("a1"), "m1") == {"sent": 1}
    (mail,) = examples.installation.inbox.mails
    assert mail.recipient == "1@example.org"
    assert mail.message["Subject"] == "Assigned to you: Answer the auditors"
    for form in ("plain", "html"):
        text = mail.text(form)
        assert "Hello Ada," in text
        assert "This task is yours now." in text
        assert "High priority · Pending" in text
        assert f"{APP_URL}/tasks/10" in text
        assert "Unsubscribe from mails about assigned tasks" in text


async def test_it_speaks_the_languages_of_its_catalogues(examples: Examples) -> None:
    await examples.user(2, name="Bernd", locale="de-AT")
    await examples.task(11, "Bericht", assignee_id=2)
    await examples.mailed(KEY, event("a1", user_id=2, task_id=11), "m1")
    (mail,) = examples.installation.inbox.mails
    assert mail.message["Subject"] == "Ihnen zugewiesen: Bericht"
    assert "Hallo Bernd," in mail.text()
    assert "Diese Aufgabe ist jetzt Ihre." in mail.text()


async def test_it_is_sent_once_for_each_key(examples: Examples) -> None:
    assert await examples.mailed(KEY, event("a1"), "m1") == {"sent": 1}
    assert await examples.mailed(KEY, event("a1"), "m2") == {"already": 1}
    assert await examples.mailed(KEY, event("a2"), "m3") == {"sent": 1}
    rows = await examples.installation.rows("SELECT period, run FROM taskbell.delivery ORDER BY id")
    assert rows == [{"period": "key:a1", "run": 0}, {"period": "key:a2", "run": 0}]
    assert await examples.metric("taskbell_mails_total", kind="assigned", state="sent") >= 2


async def test_five_deliveries_of_each_event_in_any_order_are_one_mail_each(examples: Examples) -> None:
    keys = [f"a{number}" for number in range(20)]
    deliveries = [(key, f"{key}-{again}") for key in keys for again in (1, 1, 2, 2, 3)]
    random.Random(7).shuffle(deliveries)
    await asyncio.gather(*(examples.publish(KEY, event(key), message_id) for key, message_id in deliveries))
    ends = [await examples.completed(message_id) for message_id in sorted({it for _, it in deliveries})]
    assert sorted(map(str, ends)) == ["{'already': 1}"] * 40 + ["{'sent': 1}"] * 20
    assert len(examples.installation.inbox.mails) == 20
    rows = await examples.installation.rows("SELECT period FROM taskbell.delivery")
    assert {row["period"] for row in rows} == {f"key:{key}" for key in keys}


async def test_the_web_app_asks_for_it_in_its_own_transaction(examples: Examples) -> None:
    connection = await asyncpg.connect(examples.roles.database_url("app"))
    try:
        for commits in (False, True):
            transaction = connection.transaction()
            await transaction.start()
            body = f'{{"user_id": 1, "task_id": 10, "key": "{commits}"}}'
            await connection.execute("SELECT taskbell.enqueue($1, $2, 'by-the-app')", KEY, body)
            await (transaction.commit() if commits else transaction.rollback())
    finally:
        await connection.close()
    assert await examples.completed("by-the-app") == {"sent": 1}
    assert await examples.installation.value("SELECT period FROM taskbell.delivery") == "key:True"


@pytest.mark.parametrize("change", ["assignee_id = 2", "status = 'done'", "assignee_id = NULL"])
async def test_a_task_that_is_theirs_no_longer_is_not_mailed_about(examples: Examples, change: str) -> None:
    await examples.user(2)
    examples.installation.inbox.refusals["1@example.org"] = ["450 4.2.1 later"]
    await examples.publish(KEY, event("a1"), "m1")
    await eventually(lambda: _waits_for_a_retry(examples))
    await examples.installation.rows(f"UPDATE public.tasks SET {change} WHERE id = 10")
    await examples.retry_now()
    assert await examples.completed("m1") == {"skipped": 1}
    assert await examples.reasons("assigned") == {"user:1": ("skipped", "nothing to say")}
    assert examples.installation.inbox.mails == []


async def test_a_mail_that_the_server_does_not_take_now_is_tried_again(examples: Examples) -> None:
    examples.installation.inbox.refusals["1@example.org"] = ["450 4.2.1 later"]
    await examples.publish(KEY, event("a1"), "m1")
    await eventually(lambda: _waits_for_a_retry(examples))
    await examples.retry_now()
    assert await examples.completed("m1") == {"sent": 1}


async def _waits_for_a_retry(examples: Examples) -> bool:
    return await examples.reasons("assigned") == {"user:1": ("retry", "RCPT: 450 4.2.1 later")}


async def test_who_unsubscribes_by_the_link_gets_no_more_of_them(examples: Examples) -> None:
    await examples.mailed(KEY, event("a1"), "m1")
    (mail,) = examples.installation.inbox.mails
    assert await examples.installation.ask("POST", examples.link(mail)) == 200
    assert await examples.mailed(KEY, event("a2"), "m2") == {"skipped": 1}
    reasons = await examples.installation.rows("SELECT reason FROM taskbell.delivery WHERE period = 'key:a2'")
    assert reasons == [{"reason": "opted out of assigned"}]


async def test_what_keeps_mail_from_people_keeps_this_from_them(examples: Examples) -> None:
    await examples.user(2, is_active=False)
    await examples.user(3)
    await examples.installation.insert("taskbell.suppression", [{"address": "3@example.org", "reason": "gone"}])
    for user in (2, 3):
        await examples.task(user, "Theirs", assignee_id=user)
        await examples.mailed(KEY, event("a1", user_id=user, task_id=user), f"m{user}")
    await examples.mailed(KEY, event("a1", user_id=99), "m99")
    assert await examples.reasons("assigned") == {
        "user:2": ("skipped", "inactive"),
        "user:3": ("suppressed", "address suppressed: gone"),
        "user:99": ("skipped", "no such user any more"),
    }


async def test_it_is_not_sent_after_its_expiry(examples: Examples) -> None:
    examples.installation.inbox.refusals["1@example.org"] = ["450 4.2.1 later"]
    await examples.publish(KEY, event("a1"), "m1")
    await eventually(lambda: _waits_for_a_retry(examples))
    (row,) = await examples.installation.rows("""
        SELECT d.expires_at - m.at AS expiry FROM taskbell.delivery AS d JOIN taskbell.mailing AS m ON m.id = mailing_id
    """)
    assert row["expiry"] == 4 * HOUR
    await examples.installation.rows("UPDATE taskbell.delivery SET expires_at = now(), due_at = now()")
    assert await examples.completed("m1") == {"expired": 1}


async def test_an_event_that_is_not_complete_is_a_dead_letter_with_its_reason(examples: Examples) -> None:
    await examples.publish(KEY, {"user_id": 1, "task_id": 10}, "no-key")
    (dead,) = await eventually(lambda: examples.installation.management.take("notifier.dead"))
    assert dead.headers["x-taskbell-reason"] == "key: Field required"


async def test_the_operators_commands_know_it(examples: Examples) -> None:
    assert (await examples.said("mail", "preview", "assigned")).startswith("Subject: Assigned to you: Review the relea")
    of_task_10 = ("mail", "preview", "assigned", "--user", "1", "--event", '{"task_id": 10}')
    assert (await examples.said(*of_task_10)).startswith("Subject: Assigned to you: Answer the auditors\n")
    published = await examples.said("publish", KEY, '{"user_id": 1, "task_id": 10, "key": "by hand"}')
    assert await examples.completed(published.strip()) == {"sent": 1}
    why = await examples.said("mail", "why", "--user", "1", "--kind", "assigned")
    assert "key:by hand" in why
