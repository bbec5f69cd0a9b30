"""docs/app-tables.md: mailings to an app whose tables are shown to us by the page's views."""

import asyncpg
from tests.integration.notifier.ledger.notifier_parts import NotifierParts
from tests.integration.notifier.ledger.support import NotifierTables, settings_for
from tests.support.app_tables_page import SCHEMA, page_sql
from tests.support.scripted_smtp import ScriptedSmtp

from taskbell.contracts import OverdueDue, ReminderDue, WeeklyDue
from taskbell.database import Database
from taskbell_notifier.mail.render import Renderer

PEOPLE = """
    INSERT INTO "user" VALUES (1, 'ann', 'ann@example.org'), (2, 'bob', 'bob@example.org');
    INSERT INTO task (title, status, priority, due_date, user_id) VALUES
        ('Late', 'TODO', 'HIGH', now() AT TIME ZONE 'UTC' - interval '1 hour', 1),
        ('Soon', 'IN_PROGRESS', NULL, now() AT TIME ZONE 'UTC' + interval '5 hours', 1);
    INSERT INTO task (title, status, completed_at, user_id) VALUES
        ('Over', 'DONE', now() AT TIME ZONE 'UTC' - interval '1 day', 2);
"""


async def test_mailings(database_url: str, renderer: Renderer, server: ScriptedSmtp) -> None:
    app = await asyncpg.connect(database_url, server_settings={"search_path": "public"})
    database = Database.connect(settings_for(database_url, app_schema=SCHEMA), name="tests")
    parts = NotifierParts(database, renderer)
    try:
        await app.execute("DROP TABLE public.tasks, public.users, public.projects")
        sql = page_sql()
        for script in (sql.tables, sql.views, sql.indexes, PEOPLE):
            await app.execute(script)
        for number, event in enumerate((OverdueDue(), ReminderDue(), WeeklyDue())):
            await parts.plan(event, f"m{number}")
        parts.add_sender(server)
        await parts.send()
        rows = await NotifierTables(database).rows(
            "SELECT kind, user_id, state FROM taskbell.delivery ORDER BY kind, user_id"
        )
        assert [tuple(row.values()) for row in rows] == [
            ("overdue", 1, "sent"),
            ("reminder", 1, "sent"),
            ("weekly", 1, "sent"),
            ("weekly", 2, "sent"),
        ]
    finally:
        await parts.close()
        await database.close()
        await app.close()
