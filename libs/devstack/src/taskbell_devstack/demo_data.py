"""People, projects and tasks to try Taskbell with: the same ones each time, with times relative to now.

Everything is a function of `now`, so that the demo always has tasks due today, this week and long ago, and so that a
test can predict who must get which mail. All times are more than an hour away from the limits of mailings (now, a day
from now, a week ago), so that no task crosses a limit while a demo runs.
"""

import random
from dataclasses import dataclass
from datetime import datetime, timedelta

import asyncpg

from taskbell_devstack.databases import connect
from taskbell_devstack.demo_titles import REMARKABLE, titles

PROJECTS = {1: "Website", 2: "Mobile app", 3: "Operations"}
SEED = 20_261


@dataclass(frozen=True)
class DemoPerson:
    """A row of `users`."""

    id: int
    name: str
    email: str
    timezone: str
    locale: str
    is_active: bool = True


PEOPLE = (
    DemoPerson(1, "Anna Berger", "anna@example.org", "Europe/Berlin", "de"),
    DemoPerson(2, "Jonas Vogt", "jonas@example.org", "Europe/Berlin", "de"),
    DemoPerson(3, "Claire Dubois", "claire@example.org", "Europe/Paris", "fr"),
    DemoPerson(4, "Hugo Lefèvre", "hugo@example.org", "Europe/Paris", "fr"),
    DemoPerson(5, "Lucía Fernández", "lucia@example.org", "America/Mexico_City", "es"),
    DemoPerson(6, "Mateo Ruiz", "mateo@example.org", "America/Mexico_City", "es"),
    DemoPerson(7, "Emily Carter", "emily@example.org", "America/New_York", "en"),
    DemoPerson(8, "Daniel O'Neill", "daniel@example.org", "America/New_York", "en"),
    DemoPerson(9, "Priya Nair", "priya@example.org", "Asia/Kolkata", "en"),
    DemoPerson(10, "Mia Thompson", "mia@example.org", "Australia/Sydney", "en"),
    DemoPerson(11, "Arjun Mehta", "arjun@example.org", "Asia/Kolkata", "en", is_active=False),
    DemoPerson(12, "Noah Wright", "noah@example.org", "Australia/Sydney", "en"),
)
INACTIVE = 11  # has tasks for every kind of mail, but must get no mail
QUIET = 12  # active, but has only tasks that were done long ago or cancelled, and so gets no mail


@dataclass(frozen=True)
class DemoTask:
    """A row of `tasks`."""

    id: int
    title: str
    status: str
    priority: str
    due_date: datetime | None
    created_at: datetime
    updated_at: datetime
    completed_at: datetime | None
    project_id: int
    assignee_id: int | None


@dataclass(frozen=True)
class TaskGroup:
    """A number of similar tasks. Due dates and completions lie between the two given hours, counted from now."""

    count: int
    statuses: tuple[str, ...]
    due: tuple[float, float] | None
    done: tuple[float, float] | None
    people: tuple[int, ...]


OPEN = ("pending", "pending", "in_progress")
DAY = 24.0
BUSY = tuple(range(1, 11))
GROUPS = (
    # Not everybody has tasks of each group, so that no two people get the same mails.
    TaskGroup(34, OPEN, due=(-20 * DAY, -2), done=None, people=(1, 2, 3, 4, 5, 6, 7, 8, INACTIVE)),
    TaskGroup(30, OPEN, due=(2, DAY - 2), done=None, people=(1, 2, 3, 4, 5, 6, 9, INACTIVE)),
    TaskGroup(46, OPEN, due=(DAY + 2, 7 * DAY - 2), done=None, people=BUSY),
    TaskGroup(16, OPEN, due=(8 * DAY, 40 * DAY), done=None, people=BUSY),
    TaskGroup(10, OPEN, due=None, done=None, people=BUSY),
    TaskGroup(6, OPEN, due=(-3 * DAY, 5 * DAY), done=None, people=()),
    TaskGroup(22, ("done",), due=(-9 * DAY, -2), done=(-7 * DAY + 2, -2), people=BUSY),
    TaskGroup(10, ("done",), due=(-28 * DAY, -9 * DAY), done=(-28 * DAY, -9 * DAY), people=(*BUSY, QUIET)),
    TaskGroup(18, ("done",), due=(-130 * DAY, -40 * DAY), done=(-120 * DAY, -32 * DAY), people=(*BUSY, QUIET)),
    TaskGroup(8, ("cancelled",), due=(-10 * DAY, 10 * DAY), done=None, people=(*BUSY, QUIET)),
)


def tasks(now: datetime) -> list[DemoTask]:
    """200 tasks around `now`, which must be aware."""
    chance = random.Random(SEED)  # noqa: S311 - the tasks must be the same each time
    names = titles()
    made: list[DemoTask] = []
    for group in GROUPS:
        for number in range(group.count):
            made.append(_task(len(made) + 1, names[len(made)], group, number, now, chance))
    return made


def _task(id_: int, title: str, group: TaskGroup, number: int, now: datetime, chance: random.Random) -> DemoTask:
    due = _moment(group.due, now, chance)
    done = _moment(group.done, now, chance)
    earliest = min(it for it in (due, done, now) if it is not None)
    created = earliest - timedelta(days=chance.randint(1, 30))
    return DemoTask(
        id=id_,
        title=title,
        status=group.statuses[number % len(group.statuses)],
        priority=chance.choice(("low", "medium", "medium", "high", "urgent")),
        due_date=due,
        created_at=created,
        updated_at=done or created,
        completed_at=done,
        project_id=1 + number % len(PROJECTS),
        assignee_id=group.people[number % len(group.people)] if group.people else None,
    )


def _moment(hours: tuple[float, float] | None, now: datetime, chance: random.Random) -> datetime | None:
    """A time between these hours, rounded to a quarter of an hour, because seconds would look odd in a mail."""
    if hours is None:
        return None
    moment = now + timedelta(hours=chance.uniform(*hours))
    return moment.replace(minute=moment.minute // 15 * 15, second=0, microsecond=0)


async def load(database_url: str, now: datetime) -> None:
    """Write the demo's rows to the web app's tables in schema public. Rows of an earlier load get new times."""
    connection = await connect(database_url)
    try:
        async with connection.transaction():
            await _upsert(connection, "public.users", [vars(person) for person in PEOPLE])
            await _upsert(connection, "public.projects", [{"id": id_, "name": name} for id_, name in PROJECTS.items()])
            await _upsert(connection, "public.tasks", [vars(task) for task in tasks(now)])
    finally:
        await connection.close()


async def _upsert(connection: asyncpg.Connection, table: str, rows: list[dict[str, object]]) -> None:
    columns = list(rows[0])
    values = ", ".join(f"${number}" for number in range(1, len(columns) + 1))
    renewed = ", ".join(f"{column} = excluded.{column}" for column in columns if column != "id")
    await connection.executemany(
        f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({values}) "  # noqa: S608 - names from this file
        f"ON CONFLICT (id) DO UPDATE SET {renewed}",
        [tuple(row.values()) for row in rows],
    )
    # So that ids that the database generates for an app's rows follow ours.
    await connection.execute(
        f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), (SELECT max(id) FROM {table}))"  # noqa: S608
    )


__all__ = [
    "INACTIVE",
    "PEOPLE",
    "PROJECTS",
    "QUIET",
    "REMARKABLE",
    "DemoPerson",
    "DemoTask",
    "load",
    "tasks",
]
