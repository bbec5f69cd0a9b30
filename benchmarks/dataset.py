"""The data that the cases work on, made by SQL. They are always the same, except that times are relative to now.

Sizes S, M, L, XL have 1,000 to 1,000,000 users, ten tasks each: 25 % open and overdue, 10 % open and due within 24 h,
30 % done (half of them more than 30 days ago), 35 % open and due later. Assignees are random, so that open overdue
tasks per user follow Poisson(2.5), and 92 % of the users have one. The ledger has five earlier days in it, for the
statistics of PostgreSQL's planner; the last of them is over in every zone. In a crowd every user has one overdue task,
so that everybody is mailed.

The data can be used for half a day: nothing falls due in that time, because the next due date is 12.5 h away.
"""

import hashlib
import time
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg

from taskbell.setup import schema
from taskbell_devstack.databases import migrate

HALF_A_DAY = 12 * 3600
PREFIX = "bench"
SIZES = {"S": 1_000, "M": 10_000, "L": 100_000, "XL": 1_000_000}
TASKS_EACH = 10


def words(text: str) -> list[str]:
    """The words of a text, as a list."""
    return text.split()


ZONES = words("""UTC Europe/London Europe/Prague Europe/Istanbul America/New_York America/Chicago America/Los_Angeles
    America/Sao_Paulo Asia/Kolkata Asia/Tokyo Asia/Shanghai Australia/Sydney""")
FIRST = words("Anna Björn Chloé Dávid Elif Søren Grace Hana Íñigo Jürgen Kateřina Łukasz Mei Noah Olivia Priya Zoë")
LAST = words("Andersson Brown Čapek Dubois Eriksen Fernández García Ivanov Kovács Müller O'Brien Tanaka Wójcik Zhang")
VERBS = ["Prepare", "Review", "Update", "Fix", "Document", "Deploy", "Plan", "Test", "Migrate", "Clean up"]
NOUNS = [
    *("quarterly report", "billing dashboard", "customer onboarding", "login page", "café menu – spring"),
    *("API reference", "release notes", "database backup", "travel expenses", "accessibility audit"),
    *("supplier contract & annexes", "search index"),
]
AREAS = words("Ångström Borealis Cobalt Delta Ember Fjord Granite Helios")
PRIORITIES = ["low"] * 3 + ["medium"] * 4 + ["high"] * 2 + ["urgent"]
SENTENCES = (
    "Agree the scope with everyone involved before the work starts. "
    "The previous attempt is described in the wiki, including what went wrong. "
    "Ask finance for the figures; they need two working days. "
    "Please leave a comment once the first version can be looked at."
)

USERS = """
    INSERT INTO users (id, name, email, timezone, is_active)
    SELECT n, pick($2, random()) || ' ' || pick($3, random()), 'user' || n || '@example.test', pick($4, random()), true
    FROM generate_series(1, $1::int) AS n
"""
PROJECTS = "INSERT INTO projects (id, name) SELECT n, pick($2, random()) || ' ' || n FROM generate_series(1, $1::int) n"
TASKS = """
    INSERT INTO tasks (id, title, description, status, priority, due_date, created_at, updated_at, completed_at,
        project_id, assignee_id)
    SELECT n, verb || ' ' || noun || ' #' || n, left($8, size),
        CASE WHEN r < 0.35 AND s < 0.4 THEN 'in_progress' WHEN r >= 0.35 AND r < 0.65 THEN 'done' ELSE 'pending' END,
        priority,
        CASE WHEN r < 0.25 THEN now() - interval '1 hour' - d * interval '1079 hours'
             WHEN r < 0.35 THEN now() + interval '12.5 hours' + d * interval '11.4 hours'
             WHEN r < 0.65 THEN now() - d * interval '1439 hours' + (e * 15 - 5) * interval '1 day'
             ELSE now() + interval '25 hours' + d * interval '89 days' END,
        now() - (90 + e * 90) * interval '1 day',
        now() - CASE WHEN r < 0.35 OR r >= 0.65 THEN (1 + s * 89) * interval '1 day'
                     ELSE interval '1 hour' + d * interval '1439 hours' END,
        CASE WHEN r >= 0.35 AND r < 0.65 THEN now() - interval '1 hour' - d * interval '1439 hours' END,
        project, assignee
    FROM (
        SELECT n, random() AS r, random() AS s, random() AS d, random() AS e, pick($3, random()) AS verb,
            pick($4, random()) AS noun, pick($5, random()) AS priority, 62 + (random() * 200)::int AS size,
            1 + floor(random() * $6::int)::int AS project, 1 + floor(random() * $7::int)::int AS assignee
        FROM generate_series($1::int, $2::int) AS n
    ) AS drawn
"""
CROWD = """
    INSERT INTO tasks (id, title, status, priority, due_date, assignee_id)
    SELECT n, pick($2, random()) || ' ' || pick($3, random()), 'pending', 'high', now() - interval '3 days', n
    FROM generate_series(1, $1::int) AS n
"""
HISTORY = """
    WITH days AS (
        INSERT INTO taskbell.mailing (message_id, kind, at, body_digest, state, planned, inserted_at, planned_at,
            completed_at)
        SELECT 'history ' || d, 'overdue', d, 'none', 'completed', $1, d, d, d
        FROM generate_series(now() - interval '6 days', now() - interval '2 days', interval '1 day') AS d
        RETURNING id, at
    )
    INSERT INTO taskbell.delivery (mailing_id, kind, recipient, user_id, period, state, attempts, due_at, expires_at,
        address, mail_message_id, created_at, queued_at, ended_at)
    SELECT days.id, 'overdue', 'user:' || u.id, u.id, days.at::date::text, 'sent', 1, at, at + interval '12 hours',
        u.email, '<overdue.' || days.id || '.' || u.id || '@example.test>', at, at, at
    FROM days, users AS u
"""
PICK = """
    CREATE FUNCTION pick(text[], double precision) RETURNS text LANGUAGE sql IMMUTABLE
    RETURN $1[1 + floor($2 * cardinality($1))::int]
"""
INDEXES = """
    SELECT 'DROP INDEX ' || indexrelid::regclass AS take, pg_get_indexdef(indexrelid) AS give
    FROM pg_index WHERE indrelid = 'tasks'::regclass AND NOT indisprimary
    UNION ALL
    SELECT 'ALTER TABLE tasks DROP CONSTRAINT ' || conname,
        'ALTER TABLE tasks ADD CONSTRAINT ' || conname || ' ' || pg_get_constraintdef(oid)
    FROM pg_constraint WHERE conrelid = 'tasks'::regclass AND contype = 'f'
"""
TASKS_AT_ONCE = 1_000_000
OVERDUE = """
    SELECT count(DISTINCT t.assignee_id) FROM tasks AS t JOIN users AS u ON u.id = t.assignee_id
    WHERE u.is_active AND t.status IN ('pending', 'in_progress') AND t.due_date < now()
"""
"""Counts the people that an overdue mailing is for."""


@dataclass(frozen=True)
class DataSet:
    """A kind of data and its number of users."""

    name: str
    users: int
    crowd: bool = False

    @classmethod
    def of(cls, size: str) -> "DataSet":
        """The data set of a size: S, M, L or XL."""
        return cls(size.lower(), SIZES[size])

    @classmethod
    def crowd_of(cls, users: int) -> "DataSet":
        """A data set of that many users with one overdue task each."""
        return cls(f"crowd{users}", users, crowd=True)

    def template(self, at: float) -> str:
        """The name of the database that is copied. It changes with the code that makes it, and every half day."""
        return f"{PREFIX}_{self.name}_{digest()}_{int(at // HALF_A_DAY)}"

    async def fill(self, connection: asyncpg.Connection) -> None:
        """Fills the empty tables."""
        await connection.execute(PICK)
        changes = await connection.fetch(INDEXES)
        for change in reversed(changes):
            await connection.execute(change["take"])
        await connection.execute("SELECT setseed(0.42)")
        await connection.execute(USERS, self.users, FIRST, LAST, ZONES)
        projects = max(10, self.users // 20)
        await connection.execute(PROJECTS, projects, AREAS)
        if self.crowd:
            await connection.execute(CROWD, self.users, VERBS, NOUNS)
        else:
            for first in range(1, self.users * TASKS_EACH + 1, TASKS_AT_ONCE):
                last = min(first + TASKS_AT_ONCE - 1, self.users * TASKS_EACH)
                words = VERBS, NOUNS, PRIORITIES, projects, self.users, SENTENCES
                await connection.execute(TASKS, first, last, *words)
            await connection.execute(HISTORY, self.users)
        for change in changes:
            await connection.execute(change["give"])
        await connection.execute("VACUUM (FREEZE, ANALYZE)")
        await connection.execute("CHECKPOINT")


def digest() -> str:
    """A digest of all code that determines what is in a template."""
    places = [Path(__file__), *Path(str(files("taskbell.migrations"))).rglob("*.py"), Path(schema.__file__)]
    places += Path(str(files("taskbell.models"))).glob("*.py")
    found = hashlib.sha256()
    for place in sorted(places):
        found.update(place.read_bytes())
    return found.hexdigest()[:8]


class Databases:
    """Makes copies of template databases. A template is made when it is first needed."""

    def __init__(self, admin_url: str) -> None:
        self._admin_url = admin_url

    def url(self, name: str) -> str:
        """The URL of another database of the same server."""
        return urlsplit(self._admin_url)._replace(path=f"/{name}").geturl()

    async def copy(self, data: DataSet) -> str:
        """Makes a fresh copy and returns its URL. Reads its pages once, so that every run starts with a warm cache."""
        template = await self._template(data)
        name = f"{PREFIX}_run"
        await self._execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        strategy = " STRATEGY file_copy" if await self._version() >= 150_000 else ""
        await self._execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"{strategy}')
        connection = await asyncpg.connect(self.url(name))
        try:
            await connection.fetchval("SELECT sum(length(title)) FROM tasks")
            await connection.fetchval("SELECT sum(length(name)) FROM users")
        finally:
            await connection.close()
        return self.url(name)

    async def drop_copy(self) -> None:
        """Drops the last copy."""
        await self._execute(f'DROP DATABASE IF EXISTS "{PREFIX}_run" WITH (FORCE)')

    async def _template(self, data: DataSet) -> str:
        wanted = data.template(time.time())
        admin = await asyncpg.connect(self._admin_url)
        try:
            names = [row[0] for row in await admin.fetch("SELECT datname FROM pg_database")]
            if wanted in names:
                return wanted
            for old in names:
                if old.startswith(f"{PREFIX}_{data.name}_"):
                    await admin.execute(f'DROP DATABASE "{old}" WITH (FORCE)')
            fresh = f"{PREFIX}_being_made"
            await admin.execute(f'DROP DATABASE IF EXISTS "{fresh}" WITH (FORCE)')
            await admin.execute(f'CREATE DATABASE "{fresh}"')
            await migrate(self.url(fresh))
            connection = await asyncpg.connect(self.url(fresh))
            try:
                await data.fill(connection)
            finally:
                await connection.close()
            await admin.execute(f'ALTER DATABASE "{fresh}" RENAME TO "{wanted}"')
        finally:
            await admin.close()
        return wanted

    async def _version(self) -> int:
        admin = await asyncpg.connect(self._admin_url)
        try:
            return int(await admin.fetchval("SHOW server_version_num"))
        finally:
            await admin.close()

    async def _execute(self, statement: str) -> None:
        admin = await asyncpg.connect(self._admin_url)
        try:
            await admin.execute(statement)
        finally:
            await admin.close()
