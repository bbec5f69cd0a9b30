"""A message that is delivered again, in another period: who has had a mail gets no second one.

The database's clock is the clock, and the tests set it: deliveries lie on both sides of a midnight, which for the
weekly mail is also the end of the week.
"""

import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from taskbell_notifier.lifecycle import IN_QUEUE
from tests.chaos.support.figures import Figures
from tests.chaos.support.lost_acks import LostAcks
from tests.chaos.support.mail_scenario import COMMANDS, EVENTS, MailScenario, mail_scenario
from tests.chaos.support.plan import Plan
from tests.support.installation import REPORTS_GO_TO
from tests.support.management import Management
from tests.support.vhosts import Vhost
from tests.support.virtual_clock import VirtualClock
from tests.support.waiting import eventually

ZONES = ("UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago", "America/St_Johns", "Asia/Kathmandu")
MONDAY = date(2026, 11, 30)
SUNDAY = "2026-11-29"
MONDAY_BEFORE = "2026-11-23"
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
KINDS = ("reminder", "overdue", "weekly")
QUEUES = (
    "notifier.reminder_due",
    "notifier.overdue_due",
    "notifier.weekly_due",
    "notifier.send_batch",
    "notifier.report_generated",
    "notifier.send_test_mail",
    "maintenance.update_task_status",
    "maintenance.cleanup_completed_tasks",
    "maintenance.generate_task_report",
)
EVENTS_CONNECTION = "taskbell notifier"
SHORT_LEASE = {"MAIL_LEASE_SECONDS": "3"}


@asynccontextmanager
async def clock_of(database_url: str) -> AsyncIterator[VirtualClock]:
    """The database's clock, all of it."""
    clock = VirtualClock(database_url)
    await clock.install()
    try:
        await clock.take_over_defaults()
        yield clock
    finally:
        await clock.close()


def mails(scenario: MailScenario) -> Counter[tuple[str, str]]:
    """How often the server took a mail, by kind and recipient."""
    return Counter((mail.message_id.partition(".")[0][1:], mail.recipients[0]) for mail in scenario.server.accepted)


async def depths(management: Management, *queues: str) -> dict[str, int]:
    return {queue: (await management.depth(queue)).ready for queue in queues}


async def all_over(scenario: MailScenario, mailings: int) -> None:
    """Waits until so many mailings are completed, and nothing is left to do."""

    async def look() -> bool:
        scenario.installation.check_running()
        (row,) = await scenario.installation.rows(
            "SELECT (SELECT count(*) FROM taskbell.mailing WHERE completed_at IS NOT NULL) AS completed,"
            " (SELECT count(*) FROM taskbell.delivery WHERE ended_at IS NULL) AS open,"
            " (SELECT count(*) FROM taskbell.outbox WHERE published_at IS NULL) AS unpublished"
        )
        assert row["completed"] >= mailings, row
        assert (row["open"], row["unpublished"]) == (0, 0), row
        return not any((await depths(scenario.installation.management, *QUEUES)).values())

    # A row whose message came while its claim was still the dead one's is looked at again IN_QUEUE after that.
    await eventually(look, limit=90 + IN_QUEUE.total_seconds())


@pytest.mark.parametrize("sent", [False, True], ids=["before a mail went", "after all mails went"])
async def test_a_mailing_without_id_whose_notifier_dies_before_its_ack_and_midnight_mails_nobody_twice(
    sent: bool, database_url: str, vhost: Vhost, plan: Plan, seed: int, figures: Figures
) -> None:
    zone = random.Random(f"{seed} {sent}").choice(ZONES)
    midnight = datetime.combine(MONDAY, time(), ZoneInfo(zone))
    crowd = plan.pick(quick=5, full=150)
    people = {force: [f"{'forced' if force else 'person'}-{number}" for number in range(crowd)] for force in (0, 1)}
    async with (
        mail_scenario(database_url, vhost) as scenario,
        clock_of(database_url) as clock,
        LostAcks(vhost.url, EVENTS_CONNECTION) as broker,
    ):
        await scenario.people(*people[0], *people[1], now=midnight, zone=zone)
        await clock.set(midnight - SECOND)
        if not sent:
            scenario.server.rule("CONNECT", hold=True)
        await scenario.start(BROKER_URL=broker.url, **SHORT_LEASE)
        broker.losing = True
        for kind in KINDS:
            for force, names in people.items():
                await scenario.mail(*names, key=f"{kind}.due", **({"force": True} if force else {}))
        await eventually(partial(_got_so_far, scenario, broker, "sent" if sent else "sending"), limit=90)
        scenario.installation.kill("notifier")
        await clock.set(midnight + SECOND, runs=True)
        scenario.server.clear()
        due = {f"notifier.{kind}_due": 2 for kind in KINDS}
        await eventually(lambda: _lie_again(scenario, due), what="all six events are back in their queues")
        await scenario.start(**SHORT_LEASE)
        await eventually(lambda: _lie_again(scenario, dict.fromkeys(due, 0)), what="all six events are taken again")
        await clock.set(midnight + 5 * MINUTE, runs=True)
        await eventually(lambda: _inherited(scenario, clock), what="the dead one's claims are judged")
        await all_over(scenario, 6)
        await scenario.installation.stop("notifier")
        assert not any((await depths(vhost.management, *QUEUES, "notifier.dead")).values())
        told = f"SEED={seed} {zone}"
        everybody = [f"{name}@example.org" for names in people.values() for name in names]
        assert mails(scenario) == Counter((kind, address) for kind in KINDS for address in everybody), told
        rows = await scenario.installation.rows(
            "SELECT state, period, count(*) AS rows FROM taskbell.delivery GROUP BY 1, 2"
        )
        assert {(row["state"], row["period"]): row["rows"] for row in rows} == {
            ("sent", SUNDAY): 4 * crowd,
            ("sent", MONDAY_BEFORE): 2 * crowd,
        }, told
    figures.note("an event without id, over midnight", "mails, one for each person and kind", 6 * crowd)


async def _got_so_far(scenario: MailScenario, broker: LostAcks, state: str) -> bool:
    """All six mailings are in the database, with a row in that state for each of them or for all."""
    scenario.installation.check_running()
    assert broker.lost >= len(KINDS), f"{broker.lost} acknowledgements lost"
    planned = await scenario.installation.value("SELECT count(*) FROM taskbell.mailing WHERE planned_at IS NOT NULL")
    assert planned == 6, f"{planned} mailings planned"
    states = await scenario.installation.rows("SELECT state, count(*) AS rows FROM taskbell.delivery GROUP BY state")
    found = {row["state"]: row["rows"] for row in states}
    return set(found) == {"sent"} if state == "sent" else state in found


async def _inherited(scenario: MailScenario, clock: VirtualClock) -> bool:
    """Nothing is claimed by a process that is gone. Time passes quickly until somebody looks at what is."""
    (claimed,) = await scenario.installation.rows(
        "SELECT count(*) AS rows, greatest(min(due_at), now()) AS next FROM taskbell.delivery"
        " WHERE state = 'sending' AND lease_until < now()"
    )
    if claimed["rows"]:
        await clock.set(claimed["next"], runs=True)
    return not claimed["rows"]


async def _lie_again(scenario: MailScenario, due: dict[str, int]) -> bool:
    return await depths(scenario.installation.management, *due) == due


async def test_any_message_with_an_id_delivered_five_times_shuffled_over_midnight_takes_effect_once(
    database_url: str, vhost: Vhost, plan: Plan, seed: int, figures: Figures
) -> None:
    rng = random.Random(seed)
    midnight = datetime.combine(MONDAY, time(), UTC)
    names = [f"person-{number}" for number in range(plan.pick(quick=5, full=100))]
    async with mail_scenario(database_url, vhost) as scenario, clock_of(database_url) as clock:
        await scenario.people(*names, now=midnight)
        messages = await catalogue(scenario, midnight)
        listeners = {
            key: await vhost.management.listen(EVENTS, key)
            for key in ("task.status_changed", "tasks.archived", "report.generated")
        }
        await clock.set(midnight - SECOND)
        await scenario.start("notifier", "maintenance", **SHORT_LEASE)
        before = [message for message in messages for _ in range(rng.randint(1, 4))]
        after = [message for message in messages for _ in range(5 - before.count(message))]
        for now, deliveries in ((midnight - SECOND, before), (midnight + SECOND, after)):
            await clock.set(now, runs=now > midnight)
            rng.shuffle(deliveries)
            for exchange, key, message_id, body in deliveries:
                assert await vhost.management.publish(exchange, key, body, properties={"message_id": message_id})
            await all_over(scenario, 6)  # three to people, two of reports, one test mail
        await scenario.installation.stop()
        told = f"SEED={seed}"
        assert not any((await depths(vhost.management, *QUEUES, "notifier.dead", "maintenance.dead")).values()), told
        addresses = [f"{name}@example.org" for name in names]
        assert mails(scenario) == Counter((kind, address) for kind in KINDS for address in addresses) + Counter(
            {("report", REPORTS_GO_TO): 2, ("test", "ops@example.org"): 1}
        ), told
        events = {key: [it.json() for it in await vhost.management.take(queue)] for key, queue in listeners.items()}
        await check_commands(scenario, events, told)
    figures.note("five deliveries over midnight", "messages of every kind, each delivered five times", len(messages))


Delivery = tuple[str, str, str, dict[str, Any]]


async def catalogue(scenario: MailScenario, midnight: datetime) -> list[Delivery]:
    """A message of every kind that has a queue, and what they need in the database."""
    await scenario.installation.insert(
        "tasks",
        [
            {"id": number, "title": "Old", "status": status, "due_date": None, "completed_at": midnight - age}
            for number, status, age in (
                (901, "pending", timedelta(0)),
                (902, "done", timedelta(days=40)),
                (903, "done", timedelta(days=50)),
            )
        ],
    )
    as_of = midnight - 5 * MINUTE
    await scenario.installation.insert(
        "taskbell.report", [{"date": as_of.date() - timedelta(days=9), "as_of": as_of, "body": "{}", "message_id": "r"}]
    )
    announced = {"date": (as_of.date() - timedelta(days=9)).isoformat(), "as_of": as_of.isoformat()}
    return [
        *((EVENTS, f"{kind}.due", kind, {}) for kind in KINDS),
        (EVENTS, "report.generated", "announced", announced),
        (COMMANDS, "notifier.send_test_mail", "test", {"to": "ops@example.org"}),
        (COMMANDS, "notifier.send_batch", "batch", {"delivery_ids": list(range(1, 101))}),
        (COMMANDS, "maintenance.update_task_status", "status", {"task_id": 901, "new_status": "in_progress"}),
        (COMMANDS, "maintenance.cleanup_completed_tasks", "cleanup", {}),
        (COMMANDS, "maintenance.generate_task_report", "report", {}),
    ]


async def check_commands(scenario: MailScenario, events: dict[str, list[Any]], told: str) -> None:
    """Each command took effect once, and told of it once."""
    commands = await scenario.installation.rows("SELECT message_id, state, attempts FROM taskbell.command")
    assert {row["message_id"]: (row["state"], row["attempts"]) for row in commands} == dict.fromkeys(
        ("test", "status", "cleanup", "report"), ("done", 1)
    ), told
    (changed,) = events["task.status_changed"]
    assert (changed["task_id"], changed["old_status"], changed["new_status"]) == (901, "pending", "in_progress"), told
    (archived,) = events["tasks.archived"]
    assert archived["tasks"] == 2, told
    archive = await scenario.installation.rows("SELECT task_id FROM taskbell.archived_task ORDER BY task_id")
    assert [row["task_id"] for row in archive] == [902, 903], told
    made = [event for event in events["report.generated"] if event["date"] > "2026-11-22"]
    assert len(made) == 1, told
    assert await scenario.installation.value("SELECT count(*) FROM taskbell.report") == 2, told
