"""All three services behind PgBouncer in transaction mode, with fewer connections than they ask for."""

from collections import Counter

import httpx
from prometheus_client.parser import text_string_to_metric_families
from tests.e2e.test_mailings import overdue_task, people_told, person, publish
from tests.support.installation import REPORTS_GO_TO, Installation
from tests.support.pgbouncer import pgbouncer
from tests.support.waiting import eventually

PEOPLE = 1_000
"""Ten messages of 100 mails."""


async def fates_of(installation: Installation, service: str) -> set[str]:
    """What became of its messages."""
    async with httpx.AsyncClient(trust_env=False) as client:
        text = (await client.get(f"{installation.url(service)}/metrics")).text
    samples = [it for family in text_string_to_metric_families(text) for it in family.samples]
    return {it.labels["fate"] for it in samples if it.name == "taskbell_messages_total" and it.value}


async def test_mailings_commands_and_reports_do_their_work(empty_installation: Installation) -> None:
    installation = empty_installation
    await installation.insert("users", [person(number) for number in range(1, PEOPLE + 1)])
    await installation.insert("tasks", [overdue_task(number, number) for number in range(1, PEOPLE + 1)])
    changes = [{"task_id": number, "new_status": "done"} for number in range(1, 51)]

    with pgbouncer(installation.database_url, connections=4) as url:
        await installation.start(DATABASE_URL=url, DATABASE_PREPARED_STATEMENTS="false", MAIL_POOL_SIZE="32")
        counts = await publish(installation, "overdue")
        for body in changes:
            assert await installation.management.publish("taskbell.commands", "maintenance.update_task_status", body)
        assert await installation.management.publish("taskbell.commands", "maintenance.generate_task_report", {})

        async def over() -> bool:
            installation.check_running()
            query = "SELECT count(*) FROM taskbell.command WHERE state = 'done'"
            return bool(await installation.value(query) == len(changes) + 1)

        await eventually(over, what="the commands' end")
        fates = {service: await fates_of(installation, service) for service in ("notifier", "maintenance")}

    assert fates == {"notifier": {"done"}, "maintenance": {"done"}}
    assert counts["sent"] == PEOPLE
    overdue = [mail for mail in installation.inbox.mails if mail.recipient != REPORTS_GO_TO]
    assert people_told(overdue) == Counter({f"{number}@example.org": 1 for number in range(1, PEOPLE + 1)})
    rows = await installation.rows(
        "SELECT attempts, count(*) FROM taskbell.delivery WHERE kind = 'overdue' GROUP BY attempts"
    )
    assert rows == [{"attempts": 1, "count": PEOPLE}]
