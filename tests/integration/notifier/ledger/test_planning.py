"""Planning: who gets a row, for which period, once; and what a killed planner leaves behind."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from tests.integration.notifier.ledger.notifier_parts import NotifierParts
from tests.integration.notifier.ledger.support import DAY, HOUR, NotifierTables
from tests.support.kinds import OVERDUE, REMINDER, WEEKLY
from tests.support.waiting import eventually

from taskbell import gate as gate_module
from taskbell.contracts import MailingDue, OverdueDue, ReminderDue, SendBatch, WeeklyDue
from taskbell.errors import AnothersId, Retry
from taskbell.kinds import AssignedTasks, Found, Kind, Task
from taskbell_notifier.domain import found, gets_mail
from taskbell_notifier.planning import planner as planner_module
from taskbell_notifier.planning.inserting import body_digest_of
from taskbell_notifier.repository import planning
from taskbell_notifier.repository.contents import of_users
from taskbell_notifier.repository.history import user_status

BASE = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)


async def batched(tables: NotifierTables) -> list[int]:
    """The ids in all messages, in their order; each message is one that its contract takes."""
    bodies = await tables.rows(
        "SELECT body::text AS body FROM taskbell.outbox WHERE routing_key = 'notifier.send_batch' ORDER BY id"
    )
    return [number for row in bodies for number in SendBatch.parse(row["body"].encode()).delivery_ids]


async def crowd(tables: NotifierTables, count: int) -> None:
    """People 1 to count, each with one overdue task."""
    await tables.execute(
        "INSERT INTO users (id, name, email, timezone, is_active)"
        " SELECT i, 'User ' || i, 'user' || i || '@example.org', 'UTC', true"
        " FROM generate_series(1, CAST(:count AS bigint)) AS i",
        count=count,
    )
    await tables.execute(
        "INSERT INTO tasks (id, title, status, priority, due_date, assignee_id)"
        " SELECT i, 'Task', 'pending', 'low', CAST(:due AS timestamptz), i"
        " FROM generate_series(1, CAST(:count AS bigint)) AS i",
        count=count,
        due=tables.now - DAY,
    )


async def test_everybody_has_one_row_and_every_row_is_in_one_message(
    tables: NotifierTables, parts: NotifierParts
) -> None:
    await crowd(tables, 1_250)
    await parts.plan()
    rows = await tables.rows("SELECT id, user_id FROM taskbell.delivery ORDER BY id")
    assert [row["user_id"] for row in rows] == list(range(1, 1_251))
    assert await batched(tables) == [row["id"] for row in rows]
    (mailing,) = await tables.rows("SELECT state, planned, already FROM taskbell.mailing")
    assert dict(mailing) == {"state": "sending", "planned": 1_250, "already": 0}


async def test_a_killed_planner_leaves_whole_pages_and_the_next_one_goes_on(
    tables: NotifierTables, make_parts: Callable[..., NotifierParts], monkeypatch: pytest.MonkeyPatch
) -> None:
    await crowd(tables, 1_100)
    killed, other = make_parts(), make_parts()
    await killed.start()
    assert await killed.planner.plan_page()
    assert await tables.value("SELECT count(*) FROM taskbell.delivery") == planner_module.FIRST_PAGE

    real = planning.plan

    async def dies(*args: Any, **kwargs: Any) -> int:
        await real(*args, **kwargs)
        raise KeyboardInterrupt  # as good as a kill: the transaction never ends

    with monkeypatch.context() as patched:
        patched.setattr(planning, "plan", dies)
        with pytest.raises(KeyboardInterrupt):
            await killed.planner.plan_page()
    assert await tables.value("SELECT count(*) FROM taskbell.delivery") == planner_module.FIRST_PAGE
    assert await tables.value("SELECT cursor FROM taskbell.mailing") == planner_module.FIRST_PAGE

    while await other.planner.plan_page():
        pass
    rows = await tables.rows("SELECT user_id FROM taskbell.delivery ORDER BY id")
    assert [row["user_id"] for row in rows] == list(range(1, 1_101))
    assert len(set(await batched(tables))) == len(await batched(tables)) == 1_100


async def test_planners_side_by_side_plan_everybody_once(
    tables: NotifierTables, make_parts: Callable[..., NotifierParts]
) -> None:
    await crowd(tables, 1_100)
    several = [make_parts() for _ in range(3)]
    await several[0].start(OverdueDue(), "m1")
    await several[0].start(WeeklyDue(), "m2")

    async def work(parts: NotifierParts) -> None:
        while await tables.value("SELECT count(*) FROM taskbell.mailing WHERE state = 'planning'"):
            await parts.planner.plan_page()

    await asyncio.gather(*map(work, several))
    for kind in ("overdue", "weekly"):
        rows = await tables.rows("SELECT user_id FROM taskbell.delivery WHERE kind = :kind ORDER BY user_id", kind=kind)
        assert [row["user_id"] for row in rows] == list(range(1, 1_101))
    counted = await tables.rows("SELECT planned, already FROM taskbell.mailing")
    assert [(row["planned"], row["already"]) for row in counted] == [(1_100, 0)] * 2
    assert Counter(await batched(tables)).most_common(1)[0][1] == 1


async def test_a_small_mailing_is_not_kept_waiting_by_a_large_one(tables: NotifierTables, parts: NotifierParts) -> None:
    await crowd(tables, 1_100)
    await parts.start(OverdueDue(), "large")
    await parts.planner.plan_page()
    await parts.start(WeeklyDue(user_ids=(7,)), "small")
    await parts.planner.plan_page()
    assert await tables.value("SELECT count(*) FROM taskbell.delivery WHERE kind = 'weekly'") == 1


async def test_planning_waits_while_messages_pile_up_before_the_broker(
    tables: NotifierTables, parts: NotifierParts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planner_module, "BACKLOG", 5)
    await crowd(tables, 1_100)
    await parts.start()
    assert await parts.planner._has_room()
    await parts.planner.plan_page()  # five messages
    assert not await parts.planner._has_room()
    await tables.execute("UPDATE taskbell.outbox SET published_at = now()")
    assert await parts.planner._has_room()


async def test_the_period_is_each_persons_own_date_of_the_occurrence(
    tables: NotifierTables, make_parts: Callable[..., NotifierParts]
) -> None:
    occurrence = datetime.now(UTC).replace(hour=0, minute=30, second=0, microsecond=0)
    tables.now = occurrence
    today, before = occurrence.date(), occurrence.date() - timedelta(days=1)
    for number, zone in enumerate(["UTC", "America/New_York", "Asia/Tokyo", "Foo/Bar", None, "localtime", ""], 1):
        await tables.user(number, timezone=zone)
        await tables.task(number, due=-DAY)
    parts = make_parts(timezone="America/Los_Angeles", mail_expiry_hours_overdue=48)
    await parts.start()
    await tables.execute("UPDATE taskbell.mailing SET at = :at", at=occurrence)
    while await parts.planner.plan_page():
        pass
    rows = await tables.deliveries()
    assert [rows[f"user:{number}"]["period"] for number in range(1, 8)] == [
        str(day) for day in (today, before, today, before, before, before, before)
    ]


@pytest.mark.parametrize(
    ("zone", "default", "planned"),
    [
        ("Europe/Berlin", "UTC", [2]),
        ("UTC", "UTC", [1, 3, 4]),
        ("Europe/Berlin", "Europe/Berlin", [2, 3, 4]),
        ("Asia/Tokyo", "UTC", []),
    ],
)
async def test_a_zone_keeps_to_the_people_who_live_by_it(
    tables: NotifierTables, make_parts: Callable[..., NotifierParts], zone: str, default: str, planned: list[int]
) -> None:
    for number, its in enumerate(["UTC", "Europe/Berlin", "Foo/Bar", None], 1):
        await tables.user(number, timezone=its)
        await tables.task(number, due=-DAY)
    await make_parts(timezone=default).plan(OverdueDue(timezone=zone))
    rows = await tables.rows("SELECT user_id FROM taskbell.delivery ORDER BY user_id")
    assert [row["user_id"] for row in rows] == planned


async def test_only_those_named_are_planned_also_with_large_ids(tables: NotifierTables, parts: NotifierParts) -> None:
    large = 2**62
    await tables.late_people(1, 2, large)
    await parts.plan(OverdueDue(user_ids=(large, 1, 1, 99, 2**63 - 1)))
    assert set(await tables.deliveries()) == {"user:1", f"user:{large}"}


async def test_a_period_is_planned_once_whatever_its_end_and_force_takes_the_next_run(
    tables: NotifierTables, parts: NotifierParts
) -> None:
    await tables.late_people(1, 2)
    await parts.plan(OverdueDue(), "m1")
    await tables.execute("UPDATE taskbell.delivery SET state = 'failed', ended_at = now() WHERE user_id = 1")
    await parts.plan(OverdueDue(), "m2")
    await parts.plan(OverdueDue(user_ids=(1,), force=True), "m3")
    await parts.plan(OverdueDue(force=True), "m4")
    rows = await tables.rows("SELECT user_id, run FROM taskbell.delivery ORDER BY user_id, run")
    assert [(row["user_id"], row["run"]) for row in rows] == [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1)]
    already = await tables.rows("SELECT already FROM taskbell.mailing ORDER BY id")
    assert [row["already"] for row in already] == [0, 2, 0, 0]


async def test_a_forced_run_stands_in_for_the_scheduled_one(tables: NotifierTables, parts: NotifierParts) -> None:
    await tables.late_people(1)
    await parts.plan(OverdueDue(force=True), "m1")
    await parts.plan(OverdueDue(), "m2")
    assert (await tables.delivery())["run"] == 0


async def test_two_forced_mailings_at_once_each_have_their_run(
    tables: NotifierTables, make_parts: Callable[..., NotifierParts], monkeypatch: pytest.MonkeyPatch
) -> None:
    await tables.late_people(1, 2, 3)
    slow, other = make_parts(), make_parts()
    for number, parts in enumerate((slow, other)):
        await parts.start(OverdueDue(force=True), f"m{number}")
    real, planned, commit = planning.plan, asyncio.Event(), asyncio.Event()

    async def lingers(*args: Any, **kwargs: Any) -> int:
        rows = await real(*args, **kwargs)
        if not planned.is_set():  # the first of the two
            planned.set()
            await commit.wait()
        return rows

    monkeypatch.setattr(planning, "plan", lingers)
    first = asyncio.create_task(slow.planner.plan_page())
    await planned.wait()
    second = asyncio.create_task(other.planner.plan_page())

    async def waits_for_the_first() -> bool:
        return bool(
            await tables.value(
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            )
        )

    await eventually(waits_for_the_first)
    commit.set()
    await asyncio.gather(first, second)
    rows = await tables.rows("SELECT run, count(*) AS rows FROM taskbell.delivery GROUP BY run ORDER BY run")
    assert [(row["run"], row["rows"]) for row in rows] == [(0, 3), (1, 3)]


async def test_a_repeated_message_is_the_same_mailing(tables: NotifierTables, parts: NotifierParts) -> None:
    await tables.late_people(1)
    await parts.plan(OverdueDue(), "m1")
    await parts.plan(OverdueDue(), "m1")
    assert await tables.value("SELECT count(*) FROM taskbell.mailing") == 1
    assert await tables.value("SELECT count(*) FROM taskbell.delivery") == 1


@pytest.mark.parametrize("other", [OverdueDue(force=True), WeeklyDue(), OverdueDue(user_ids=(1,))])
async def test_another_event_under_the_same_id_never_takes_effect(
    tables: NotifierTables, parts: NotifierParts, other: MailingDue
) -> None:
    await tables.late_people(1)
    await parts.plan(OverdueDue(), "m1")
    with pytest.raises(AnothersId, match="this message_id was another message's"):
        await parts.start(other, "m1")
    assert await tables.value("SELECT count(*) FROM taskbell.mailing") == 1
    # A mailing of a former version does not say whose its message_id is.
    await tables.execute("UPDATE taskbell.mailing SET digest = NULL")
    await parts.start(other, "m1")
    assert await tables.value("SELECT count(*) FROM taskbell.mailing") == 1


async def test_an_occurrence_that_has_not_come_takes_no_mails_from_the_real_one(
    tables: NotifierTables, parts: NotifierParts
) -> None:
    await tables.late_people(1)
    tomorrow = datetime.now(UTC) + DAY
    with pytest.raises(Retry, match="its occurrence has not come yet"):
        await parts.start(OverdueDue(occurrence=tomorrow, timezone="UTC"), "m1")
    assert await tables.value("SELECT count(*) FROM taskbell.mailing") == 0


async def test_advisory_locks_of_others_hold_up_no_mailing_for_long(
    tables: NotifierTables, parts: NotifierParts, stranger: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    event = OverdueDue(force=True)
    names = [f"taskbell mailing {body_digest_of(event)}", "taskbell forced overdue"]
    for name in names:
        await stranger.execute("SELECT pg_advisory_lock(hashtextextended($1, 0))", name)
    await tables.late_people(1)
    async with asyncio.timeout(20):
        with pytest.raises(Retry, match="another session has held the lock on this message for more than 2s"):
            await parts.start(event, "m0", anonymous=True, redelivered=True)
        await parts.plan(event, "m1")
    assert await tables.states() == {"user:1": "planned"}


@pytest.mark.parametrize("again", [{"redelivered": True}, {"attempt": 1}])
@pytest.mark.parametrize("force", [False, True])
async def test_a_message_without_an_id_that_comes_again_joins_its_mailing(
    tables: NotifierTables, parts: NotifierParts, again: dict[str, Any], force: bool
) -> None:
    event = OverdueDue(force=force)
    await parts.start(event, "first", anonymous=True)
    await parts.start(event, "second", anonymous=True, **again)
    assert await tables.value("SELECT count(*) FROM taskbell.mailing") == 1


@pytest.mark.parametrize(
    ("event", "envelope", "age"),
    [
        (OverdueDue(), {"anonymous": True}, 0),  # published once more by hand
        (OverdueDue(user_ids=(1,)), {"anonymous": True, "redelivered": True}, 0),  # another body
        (WeeklyDue(), {"anonymous": True, "redelivered": True}, 0),  # another kind
        (OverdueDue(), {"redelivered": True}, 0),  # it has an id of its own
        (OverdueDue(), {"anonymous": True, "redelivered": True}, 61),  # too long ago
    ],
)
async def test_what_is_another_message_is_another_mailing(
    tables: NotifierTables, parts: NotifierParts, event: MailingDue, envelope: dict[str, Any], age: int
) -> None:
    await parts.start(OverdueDue(), "first", anonymous=True)
    await tables.execute("UPDATE taskbell.mailing SET inserted_at = now() - make_interval(mins => :age)", age=age)
    await parts.start(event, "second", **envelope)
    assert await tables.value("SELECT count(*) FROM taskbell.mailing") == 2


async def test_two_deliveries_of_one_message_without_an_id_at_once_are_one_mailing(
    tables: NotifierTables, make_parts: Callable[..., NotifierParts]
) -> None:
    several = [make_parts() for _ in range(4)]
    again = {"anonymous": True, "redelivered": True}
    await asyncio.gather(*(parts.start(OverdueDue(), f"m{n}", **again) for n, parts in enumerate(several)))
    assert await tables.value("SELECT count(*) FROM taskbell.mailing") == 1


@pytest.mark.parametrize(("hours", "planned"), [(11.9, 1), (12.1, 0)])
async def test_an_event_that_comes_after_its_expiry_plans_nobody_and_says_so(
    tables: NotifierTables, parts: NotifierParts, hours: float, planned: int
) -> None:
    await tables.late_people(1)
    occurrence = datetime.now(UTC) - timedelta(hours=hours)
    await parts.plan(OverdueDue(occurrence=occurrence, timezone="UTC"))
    assert await tables.value("SELECT count(*) FROM taskbell.delivery") == planned
    assert await parts.completion.complete() == 1 - planned
    told = await tables.outbox("mailing.completed")
    assert [body.get("note") for body in told] == ["came after its expiry: nobody was planned"] * (1 - planned)


async def test_rows_expire_so_long_after_the_occurrence_as_their_kind_says(
    tables: NotifierTables, make_parts: Callable[..., NotifierParts]
) -> None:
    await tables.late_people(1)
    await tables.task(1, due=HOUR)
    parts = make_parts(mail_expiry_hours_reminder=3)
    at = (tables.now - timedelta(minutes=5)).replace(microsecond=0)
    for number, event in enumerate((OverdueDue, ReminderDue, WeeklyDue)):
        await parts.plan(event(occurrence=at, timezone="UTC"), f"m{number}")
    rows = await tables.rows("SELECT kind, expires_at FROM taskbell.delivery")
    assert {row["kind"]: row["expires_at"] - at for row in rows} == {
        "overdue": 12 * HOUR,
        "reminder": 3 * HOUR,
        "weekly": 48 * HOUR,
    }


def random_task(rng: random.Random, number: int) -> dict[str, Any]:
    """A task around BASE, often exactly on an edge."""
    edges = [timedelta(0), DAY, -DAY, 7 * DAY, -7 * DAY, timedelta(hours=3), timedelta(days=-30)]
    moment = rng.choice(edges) + rng.choice([timedelta(0), timedelta(microseconds=1), -timedelta(microseconds=1)])
    done = rng.choice(edges) + rng.choice([timedelta(0), -timedelta(microseconds=1)])
    return {
        "id": number,
        "title": "T",
        "status": rng.choice(["pending", "in_progress", "done", "cancelled", "blocked"]),
        "priority": rng.choice(["low", "urgent", "strange"]),
        "due_date": None if rng.random() < 0.2 else BASE + moment,
        "completed_at": None if rng.random() < 0.3 else BASE + done,
    }


def plain(content: Found) -> dict[str, Any]:
    """The content by ids and numbers."""
    lists = {name: ([task.id for task in it.tasks], it.more) for name, it in content.lists.items()}
    return {**lists, **content.counts}


@pytest.mark.parametrize(
    ("kind", "event"),
    [(REMINDER, ReminderDue), (OVERDUE, OverdueDue), (WEEKLY, WeeklyDue)],
)
@pytest.mark.parametrize("listed", [False, True])
async def test_the_statements_plan_and_say_and_explain_exactly_what_the_domain_does(
    tables: NotifierTables,
    make_parts: Callable[..., NotifierParts],
    kind: Kind,
    event: type[MailingDue],
    listed: bool,
) -> None:
    rng = random.Random(f"{kind.name} {listed}")
    assert isinstance(kind.who, tuple)
    assert isinstance(kind.what, AssignedTasks)
    expected = []
    said = {}
    counted = {}
    number = 0
    for user in range(1, 121):
        active = rng.random() < 0.9
        await tables.user(user, is_active=active)
        tasks = []
        for _ in range(rng.randrange(4)):
            number += 1
            row = random_task(rng, number)
            await tables._insert("tasks", row | {"assignee_id": user})
            tasks.append(Task(project=None, **row))
        content = found(kind.what, tasks, BASE)
        assert (content is not None) == gets_mail(kind.who, tasks, BASE)
        if active and content is not None:
            expected.append(user)
        if content is not None:
            said[user] = plain(content)
        counted[user] = sum(gets_mail(kind.who, [task], BASE) for task in tasks)
    parts = make_parts(mail_expiry_hours_reminder=700, mail_expiry_hours_overdue=700, mail_expiry_hours_weekly=700)
    await parts.start(event(user_ids=tuple(range(1, 121))) if listed else event())
    await tables.execute("UPDATE taskbell.mailing SET at = :at", at=BASE)
    while await parts.planner.plan_page():
        pass
    rows = await tables.rows("SELECT user_id FROM taskbell.delivery ORDER BY user_id")
    assert [row["user_id"] for row in rows] == expected
    assert 5 < len(expected) < 115  # the sample has both
    app = tables.database.app
    async with tables.database.transaction() as transaction:
        loaded = await of_users(transaction, app, kind, BASE, range(1, 121))
        explained = {user: await user_status(transaction, app, user, [kind], BASE) for user in range(1, 121)}
    assert {user: plain(content) for user, content in loaded.items() if isinstance(content, Found)} == said
    assert {user: row.found[0] for user, row in explained.items() if row is not None} == counted


async def test_a_page_that_postgresql_refuses_is_told_of_and_planned_once_it_can_be(
    tables: NotifierTables, parts: NotifierParts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate_module, "REFUSED", 0.02)
    await tables.late_people(1)
    await tables.execute("ALTER TABLE public.tasks RENAME TO tasks_elsewhere")
    await parts.start()
    await parts.open_gate()
    stop = asyncio.Event()
    running = asyncio.create_task(parts.planner.run(stop))

    def said() -> dict[str, str]:
        return dict(parts.health.report()["parts"].get("planner", {}))

    await eventually(lambda: said().get("state") == "waiting")
    assert 'relation "public.tasks" does not exist' in said()["detail"]
    await tables.execute("ALTER TABLE public.tasks_elsewhere RENAME TO tasks")
    await eventually(lambda: said()["state"] == "ready")

    async def planned() -> bool:
        return await tables.states() == {"user:1": "planned"}

    await eventually(planned)
    stop.set()
    await running
