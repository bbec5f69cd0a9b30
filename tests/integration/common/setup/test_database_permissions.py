"""What each role may do with each table, tried on a real database: the matrix below is written by hand.

It is what `docs/permissions.md` says, not what `privileges.py` says: a change there fails here until somebody has
written down, once more and in words that a reviewer sees, who may do what.
"""

from collections.abc import AsyncIterator, Mapping

import asyncpg
import pytest
import pytest_asyncio
from tests.support.command import taskbell
from tests.support.roles import NAMES, Roles, allows, connected

# SELECT, INSERT, UPDATE, DELETE. A capital: on every column; a small letter: only on those in SOME; a dash: denied.
MATRIX = """
                            scheduler   notifier    maintenance   app     operator

    app.users               s---        s---        ----          ----    s---
    app.projects            ----        s---        s---          ----    s---
    app.tasks               ----        s---        S-uD          ----    SI--

    taskbell.schedule_state SIU-        ----        ----          ----    SIu-
    taskbell.occurrence     SIUD        ----        ----          ----    S---
    taskbell.outbox         SIUD        SIUD        SIUD          ----    S---
    taskbell.command        ----        SIUD        SIUD          ----    S---
    taskbell.refused_command ----       SIUD        SIUD          ----    S---

    taskbell.mailing        ----        SIUD        ----          ----    S---
    taskbell.delivery       ----        SIUD        s---          ----    S---
    taskbell.preference     ----        SIU-        ----          ----    S---
    taskbell.suppression    ----        SI-D        ----          ----    S--D
    taskbell.refusal        ----        SIUD        ----          ----    S---
    taskbell.answering      ----        SIUD        ----          ----    S---
    taskbell.awaited_command ----      SIUD        ----          ----    S---

    taskbell.report         ----        S---        SIU-          ----    S---
    taskbell.archive_batch  ----        ----        SIU-          ----    S-u-
    taskbell.archived_task  ----        ----        -I--          ----    S-u-

    taskbell.alembic_version S---       S---        S---          ----    S---
"""

SOME = {
    ("scheduler", "app.users", "s"): "is_active timezone",
    ("notifier", "app.users", "s"): "email id is_active locale name timezone",
    ("operator", "app.users", "s"): "email id is_active locale name timezone",
    ("notifier", "app.projects", "s"): "id name",
    ("maintenance", "app.projects", "s"): "id name",
    ("operator", "app.projects", "s"): "id name",
    ("notifier", "app.tasks", "s"): "assignee_id completed_at due_date id priority project_id status title",
    ("maintenance", "app.tasks", "u"): "completed_at status updated_at",
    ("maintenance", "taskbell.delivery", "s"): "ended_at kind state",
    ("operator", "taskbell.schedule_state", "u"): "note paused paused_at resumed_at updated_at",
    ("operator", "taskbell.archive_batch", "u"): "restored",
    ("operator", "taskbell.archived_task", "u"): "restored_at",
}

VERBS = "SIUD"
LINES = [line.split() for line in MATRIX.splitlines() if line.strip()]
ROLES, TABLES = LINES[0], [line[0] for line in LINES[1:]]
EXPECTED = {(role, table): cell for table, *cells in LINES[1:] for role, cell in zip(ROLES, cells, strict=True)}

TABLE_COLUMNS = """
    SELECT a.attname, format_type(a.atttypid, a.atttypmod) FROM pg_attribute AS a
    WHERE a.attrelid = $1::regclass AND a.attnum > 0 AND NOT a.attisdropped
"""


@pytest_asyncio.fixture(scope="module")
async def admin(roles: Roles) -> AsyncIterator[asyncpg.Connection]:
    async with connected(roles.admin_url) as connection:
        yield connection


@pytest_asyncio.fixture(scope="module")
async def logged_in(roles: Roles) -> AsyncIterator[Mapping[str, asyncpg.Connection]]:
    """A connection as each role."""
    connections = {role: await asyncpg.connect(roles.database_url(role)) for role in NAMES}
    yield connections
    for connection in connections.values():
        await connection.close()


@pytest_asyncio.fixture(scope="module", autouse=True)
async def _rows(admin: asyncpg.Connection) -> None:
    """Something in the tables to be kept from those who may not have it, also in columns that are the app's alone."""
    await admin.execute("""
        ALTER TABLE "The App".users ADD COLUMN password_hash text;
        ALTER TABLE "The App".projects ADD COLUMN budget numeric;
        ALTER TABLE "The App".tasks ADD COLUMN internal_note text;
        INSERT INTO "The App".users (id, name, email, is_active) VALUES (1, 'Ada', 'ada@example.org', true);
        INSERT INTO "The App".projects (id, name) VALUES (1, 'Engine');
        INSERT INTO "The App".tasks (id, title, assignee_id, project_id) VALUES (1, 'A private matter', 1, 1);
        INSERT INTO taskbell.mailing (message_id, kind, body_digest) VALUES ('m1', 'reminder', '');
        INSERT INTO taskbell.delivery (mailing_id, kind, recipient, user_id, period, due_at, expires_at)
            SELECT id, kind, 'user:1', 1, '2026-01-01', now(), now() FROM taskbell.mailing;
        INSERT INTO taskbell.preference (user_id, kind, enabled) VALUES (1, 'weekly', false);
        INSERT INTO taskbell.suppression (address, reason) VALUES ('bob@example.org', 'no such mailbox');
    """)


def test_the_matrix_has_every_role_and_no_exception_for_nothing() -> None:
    assert tuple(ROLES) == NAMES
    exceptions = {(role, table, verb) for (role, table), cell in EXPECTED.items() for verb in cell if verb.islower()}
    assert exceptions == set(SOME)


async def test_the_matrix_has_every_table(admin: asyncpg.Connection) -> None:
    found = await admin.fetch("""
        SELECT replace(schemaname, 'The App', 'app') || '.' || tablename FROM pg_tables
        WHERE schemaname IN ('taskbell', 'The App')
    """)
    assert {row[0] for row in found} == set(TABLES)


@pytest.mark.parametrize(("role", "table"), list(EXPECTED))
async def test_a_role_may_do_what_the_matrix_says_and_nothing_else(
    admin: asyncpg.Connection, logged_in: Mapping[str, asyncpg.Connection], role: str, table: str
) -> None:
    name = table.replace("app.", '"The App".')
    columns = {row[0]: row[1] for row in await admin.fetch(TABLE_COLUMNS, name)}
    may: dict[str, set[str]] = {verb: set() for verb in VERBS}
    for column, kind in columns.items():
        for verb, statement in tries(name, column, kind).items():
            if await allows(logged_in[role], statement):
                may[verb].add(column)

    found = {verb: "every" if may[verb] == columns.keys() else " ".join(sorted(may[verb])) for verb in VERBS}

    wanted = dict.fromkeys(VERBS, "")
    for letter in EXPECTED[role, table].replace("-", ""):
        wanted[letter.upper()] = "every" if letter.isupper() else SOME[role, table, letter]
    assert found == wanted


def tries(table: str, column: str, kind: str) -> dict[str, str]:
    """A statement for each verb that needs that privilege on that column and no other, and fails for nothing else.

    No row is written, so that no constraint has a say: PostgreSQL checks permissions before it looks for rows.
    """
    return {
        "S": f"SELECT {column} FROM {table}",
        "I": f"INSERT INTO {table} ({column}) OVERRIDING SYSTEM VALUE SELECT CAST(NULL AS {kind}) WHERE false",
        "U": f"UPDATE {table} SET {column} = DEFAULT WHERE false",
        "D": f"DELETE FROM {table} WHERE false",
    }


@pytest.mark.parametrize(
    "secret",
    [
        'SELECT title FROM "The App".tasks',
        'SELECT count(*) FROM "The App".tasks',
        'SELECT name FROM "The App".projects',
        'SELECT name FROM "The App".users',
        'SELECT email FROM "The App".users',
        "SELECT address FROM taskbell.delivery",
        "SELECT count(*) FROM taskbell.delivery",
        "SELECT count(*) FROM taskbell.mailing",
        "SELECT count(*) FROM taskbell.preference",
        "SELECT address FROM taskbell.suppression",
        "SELECT body FROM taskbell.command",
        "SELECT body FROM taskbell.report",
        "SELECT row FROM taskbell.archived_task",
    ],
)
async def test_the_scheduler_cannot_read_tasks_or_mail(
    admin: asyncpg.Connection, logged_in: Mapping[str, asyncpg.Connection], secret: str
) -> None:
    assert await allows(admin, secret)
    assert not await allows(logged_in["scheduler"], secret)


@pytest.mark.parametrize(
    "change",
    [
        """UPDATE "The App".tasks SET status = 'done'""",
        """UPDATE "The App".tasks SET due_date = now()""",
        """DELETE FROM "The App".tasks""",
        """INSERT INTO "The App".tasks (id, title) VALUES (2, 'Nobody asked for this')""",
        """SELECT id FROM "The App".tasks FOR UPDATE""",
    ],
)
async def test_the_notifier_cannot_change_tasks(
    admin: asyncpg.Connection, logged_in: Mapping[str, asyncpg.Connection], change: str
) -> None:
    assert await allows(admin, change)
    assert not await allows(logged_in["notifier"], change)


async def test_the_notifier_tells_why_as_far_as_it_may(roles: Roles, admin: asyncpg.Connection) -> None:
    await admin.execute(
        """INSERT INTO "The App".users (id, name, email, is_active) VALUES (77, 'Ann', 'ann@example.org', true)"""
    )
    told = {
        role: await taskbell(
            "mail", "why", "--user", "77", DATABASE_URL=roles.database_url(role), APP_SCHEMA=roles.app_schema
        )
        for role in ("notifier", "operator")
    }
    assert [(said.status, said.err) for said in told.values()] == [(0, ""), (0, "")]
    assert "ask as taskbell_operator" in told["notifier"].out
    assert "No schedule has run in UTC yet" in told["operator"].out


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE taskbell.delivery SET state = 'sent', ended_at = now()",
        "DELETE FROM taskbell.delivery",
        """INSERT INTO taskbell.delivery (mailing_id, kind, recipient, period, state, due_at, expires_at, ended_at)
            VALUES (1, 'reminder', 'user:2', '2026-01-01', 'sent', now(), now(), now())""",
        "UPDATE taskbell.mailing SET state = 'completed', completed_at = now()",
    ],
)
async def test_maintenance_cannot_mark_a_mail_sent(
    admin: asyncpg.Connection, logged_in: Mapping[str, asyncpg.Connection], change: str
) -> None:
    assert await allows(admin, change)
    assert not await allows(logged_in["maintenance"], change)


@pytest.mark.parametrize("role", NAMES)
async def test_the_app_alone_may_enqueue(logged_in: Mapping[str, asyncpg.Connection], role: str) -> None:
    assert await allows(logged_in[role], "SELECT taskbell.enqueue('reminder.due')") == (role == "app")
