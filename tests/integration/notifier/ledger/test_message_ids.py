"""Message-IDs: no two installations, schemas or mails share one, and a mail keeps its own at every try."""

import re
from datetime import UTC, date, datetime
from importlib.resources import files

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection
from tests.integration.notifier.ledger.notifier_parts import NotifierParts, planned
from tests.integration.notifier.ledger.support import NotifierTables, received, settings_for
from tests.support.databases import fresh_database
from tests.support.scripted_smtp import ScriptedSmtp
from tests.support.servers import ServerUrls

from taskbell.contracts import OverdueDue, ReportGenerated, SendTestMail, WeeklyDue
from taskbell.database import Database
from taskbell.setup.schema import create_app_tables, migrate
from taskbell_notifier.kinds import trial
from taskbell_notifier.mail.render import Renderer
from taskbell_notifier.planning.inserting import insert_mailing, insert_recipients
from taskbell_notifier.planning.report import ReportMails

TOKEN = re.compile(r"[0-9a-f]{32}")
DUE_AGAIN = "UPDATE taskbell.delivery SET next_attempt_at = now(), due_at = now() WHERE ended_at IS NULL"


async def first_message_id(url: str, renderer: Renderer, server: ScriptedSmtp) -> str:
    """The Message-ID of the first mail of an installation."""
    database = Database.connect(settings_for(url), name="tests")
    parts = NotifierParts(database, renderer)
    try:
        tables = NotifierTables(database)
        await planned(tables, parts, server)
        await parts.send()
        return str((await tables.delivery())["mail_message_id"])
    finally:
        await parts.close()
        await database.close()


async def test_the_first_mails_of_two_installations_and_of_a_schema_made_anew_differ(
    servers: ServerUrls, template_database: str, renderer: Renderer, server: ScriptedSmtp
) -> None:
    ids = []
    async with (
        fresh_database(servers.database_url, template=template_database) as one,
        fresh_database(servers.database_url, template=template_database) as other,
    ):
        ids += [await first_message_id(url, renderer, server) for url in (one, other)]
        database = Database.connect(settings_for(other), name="tests")
        async with database.transaction() as transaction:
            await transaction.execute("DROP SCHEMA taskbell CASCADE")
            await transaction.execute("DROP TABLE public.tasks, public.projects, public.users")
            await migrate(transaction.connection)
            await create_app_tables(transaction.connection, "public")
        await database.close()
        ids.append(await first_message_id(other, renderer, server))
    assert len(set(ids)) == 3
    assert [mail.message_id for mail in server.accepted] == ids
    assert {re.sub(TOKEN, "TOKEN", it) for it in ids} == {"<overdue.1.TOKEN@example.org>"}


async def test_a_mail_keeps_its_message_id_at_every_try_also_after_an_unknown_outcome(
    tables: NotifierTables, parts: NotifierParts, server: ScriptedSmtp
) -> None:
    await planned(tables, parts, server)
    token = (await tables.delivery())["message_token"]
    assert TOKEN.fullmatch(token)
    server.rule("RCPT", reply="450 4.2.0 later", times=1)
    server.rule("DOT", drop=True, accept=True, times=1)
    stored = []
    for state in ("retry", "unknown", "sent"):
        await parts.send()
        row = await tables.delivery()
        assert row["state"] == state
        stored.append((row["message_token"], row["mail_message_id"]))
        await tables.execute(DUE_AGAIN)
    assert stored == [(token, f"<overdue.{row['id']}.{token}@example.org>")] * 3
    assert [mail.message_id for mail in server.accepted] == [row["mail_message_id"]] * 2


async def test_mails_of_every_way_of_planning_have_tokens_of_their_own(
    tables: NotifierTables, parts: NotifierParts, server: ScriptedSmtp
) -> None:
    await tables.late_people(1, 2)
    await parts.plan(OverdueDue())
    await parts.plan(OverdueDue(user_ids=(1,), force=True), "again")
    await parts.plan(WeeklyDue(), "weekly")
    await tables.execute(
        "INSERT INTO taskbell.report (date, as_of, body, message_id) VALUES ('2026-11-22', now(), '{}', 'r')"
    )
    reports = ReportMails(
        tables.database,
        parts.outbox,
        recipients=["ops@example.org"],
        expiry=parts.settings.expiry(parts.kinds),
        completion=parts.completion.wanted,
    )
    await reports.announce([received(ReportGenerated(date=date(2026, 11, 22), as_of=datetime.now(UTC)), "report")])
    async with tables.database.transaction() as transaction:
        test = received(SendTestMail(to="ops@example.org"), "test")
        mailing = await insert_mailing(transaction, trial.KIND, test, {}, direct=True)
        assert mailing is not None
        await insert_recipients(
            transaction, parts.outbox, trial.KIND, mailing, {}, addresses=["ops@example.org"], period="test"
        )
    parts.add_sender(server)
    await parts.send()
    rows = await tables.rows("SELECT * FROM taskbell.delivery ORDER BY id")
    assert [row["state"] for row in rows] == ["sent"] * 7
    assert len({row["message_token"] for row in rows}) == 7
    for row in rows:
        assert TOKEN.fullmatch(row["message_token"])
        assert row["mail_message_id"] == f"<{row['kind']}.{row['id']}.{row['message_token']}@example.org>"
    assert {mail.message_id for mail in server.accepted} == {row["mail_message_id"] for row in rows}


async def test_rows_from_before_there_were_tokens_keep_the_form_that_was_theirs(
    tables: NotifierTables, parts: NotifierParts, server: ScriptedSmtp
) -> None:
    await planned(tables, parts, server, 1, 2)
    first, second = sorted(row["id"] for row in (await tables.deliveries()).values())
    await tables.execute("UPDATE taskbell.delivery SET message_token = NULL WHERE id = :id", id=first)
    # An older notifier claims, and so names, a row that a newer one has planned.
    await tables.execute(
        "UPDATE taskbell.delivery SET mail_message_id = '<overdue.' || id || '@example.org>' WHERE id = :id", id=second
    )
    await parts.send()
    assert {mail.message_id for mail in server.accepted} == {
        f"<overdue.{first}@example.org>",
        f"<overdue.{second}@example.org>",
    }


async def test_the_migration_rewrites_nothing_and_gives_tokens_to_what_older_notifiers_plan_from_then_on(
    empty_database_url: str,
) -> None:
    database = Database.connect(settings_for(empty_database_url), name="tests")
    tables = NotifierTables(database)
    insert = """
        INSERT INTO taskbell.delivery (mailing_id, kind, recipient, period, due_at, expires_at)
        VALUES (1, 'overdue', :recipient, '2026-11-22', now(), now()) RETURNING id
    """
    file = "SELECT pg_relation_filenode('taskbell.delivery')"

    def upgrade(connection: Connection, version: str) -> None:
        config = Config()
        config.set_main_option("script_location", str(files("taskbell.migrations")))
        config.attributes["connection"] = connection
        command.upgrade(config, version)

    async with database.transaction() as transaction:
        await transaction.execute("CREATE SCHEMA taskbell")
        await transaction.connection.run_sync(upgrade, "0001")
    await tables.value(insert, recipient="user:1")
    before = await tables.value(file)
    async with database.transaction() as transaction:
        await transaction.connection.run_sync(upgrade, "0003")
    await tables.value(insert, recipient="user:2")
    assert await tables.value(file) == before
    rows = await tables.deliveries()
    await database.close()
    assert rows["user:1"]["message_token"] is None
    assert TOKEN.fullmatch(rows["user:2"]["message_token"])
