"""`taskbell mail`: the operator's questions."""

import asyncio
import json
from collections.abc import Callable

import pytest
from tests.integration.notifier.ledger.notifier_parts import NotifierParts
from tests.integration.notifier.ledger.support import DAY, NotifierTables
from tests.support.command import taskbell
from typer.testing import CliRunner, Result

from taskbell.contracts import OverdueDue, WeeklyDue
from taskbell_notifier.cli import app

Run = Callable[..., Result]


@pytest.fixture
def run(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("APP_URL", "https://app.example.org")

    def call(*arguments: str) -> Result:
        return CliRunner().invoke(app, list(arguments))

    return call


async def in_thread(run: Run, *arguments: str) -> Result:
    """The command has an event loop of its own."""
    return await asyncio.to_thread(run, *arguments)


async def test_why_tells_every_mail_to_a_person_the_newest_first(
    tables: NotifierTables, parts: NotifierParts, run: Run
) -> None:
    await tables.late_people(1, 2)
    await parts.plan(OverdueDue(), "m1")
    await parts.plan(WeeklyDue(), "m2")
    await tables.execute(
        "UPDATE taskbell.delivery SET state = 'skipped', reason = 'nothing to say' WHERE kind = 'overdue'"
    )
    for who in (("--user", "1"), ("--address", " User1@example.org")):
        found = json.loads((await in_thread(run, "why", *who, "--json")).stdout)
        assert [(row["kind"], row["recipient"], row["state"], row["reason"]) for row in found] == [
            ("weekly", "user:1", "planned", None),
            ("overdue", "user:1", "skipped", "nothing to say"),
        ]
    table = (await in_thread(run, "why", "--user", "1", "--kind", "overdue")).stdout
    assert "nothing to say" in table
    assert "weekly" not in table.partition("User 1 now has")[0]


async def test_why_says_so_where_there_is_nothing(tables: NotifierTables, run: Run) -> None:
    await tables.user(9)
    assert "no mail to them" in (await in_thread(run, "why", "--user", "9")).stdout
    missing = await in_thread(run, "why", "--user", "999")
    assert str(missing.exception) == "there is no user 999, and the ledger has no mail to them"


async def test_why_tells_what_the_schedules_of_their_zone_did(
    tables: NotifierTables, parts: NotifierParts, run: Run
) -> None:
    await tables.user(1, timezone="Europe/Berlin")
    assert "No schedule has run in Europe/Berlin yet" in (await in_thread(run, "why", "--user", "1")).stdout
    for schedule, zone, active, paused, note in (
        ("overdue-alerts", "Europe/Berlin", True, False, None),
        ("overdue-alerts", "Asia/Tokyo", True, True, "elsewhere"),
        ("reminders", "Europe/Berlin", True, False, None),
        ("reminders", "*", False, True, "holiday"),
        ("retired", "Europe/Berlin", False, False, None),
        ("weekly-summary", "Europe/Berlin", True, False, None),
    ):
        await tables.execute(
            "INSERT INTO taskbell.schedule_state (schedule, zone, position, active, paused, note)"
            " VALUES (:schedule, :zone, now(), :active, :paused, :note)",
            schedule=schedule,
            zone=zone,
            active=active,
            paused=paused,
            note=note,
        )
    for schedule, key, status, reason, message_id in (
        ("overdue-alerts", "2026-11-19", "published", None, "m0"),
        ("overdue-alerts", "2026-11-20", "published", None, "m1"),
        ("reminders", "2026-11-20", "paused", "paused: holiday", None),
        ("weekly-summary", "2026-11-16", "missed", "noticed 17 h late", None),
    ):
        await tables.execute(
            "INSERT INTO taskbell.occurrence (schedule, zone, key, at, status, reason, message_id) VALUES"
            " (:schedule, 'Europe/Berlin', :key, CAST(CAST(:key AS text) AS timestamptz), :status, :reason, :id)",
            schedule=schedule,
            key=key,
            status=status,
            reason=reason,
            id=message_id,
        )
    await parts.plan(OverdueDue(), "m1")
    told = (await in_thread(run, "why", "--user", "1")).stdout
    assert "What schedules did last in Europe/Berlin, their zone:" in told
    lines = {line.split()[0]: " ".join(line.split()) for line in told.splitlines() if line.strip()}
    assert lines["overdue-alerts"] == "overdue-alerts 2026-11-20 00:00:00 UTC published overdue: sending, 0 planned"
    assert lines["reminders"] == "reminders 2026-11-20 00:00:00 UTC paused paused: holiday paused: holiday"
    assert lines["weekly-summary"] == "weekly-summary 2026-11-16 00:00:00 UTC missed noticed 17 h late"
    assert "retired" not in lines
    assert "elsewhere" not in told


async def test_why_tells_when_a_mail_that_has_not_ended_goes_on(
    tables: NotifierTables, parts: NotifierParts, run: Run
) -> None:
    await tables.late_people(1)
    await parts.plan(OverdueDue(), "m1")
    told = (await in_thread(run, "why", "--user", "1")).stdout
    assert "waits for its turn, and is given up at " in told
    await tables.execute("UPDATE taskbell.delivery SET state = 'retry', next_attempt_at = '2026-11-20T10:00Z'")
    assert "is tried next at 2026-11-20 10:00:00 UTC" in (await in_thread(run, "why", "--user", "1")).stdout
    await tables.execute(
        "UPDATE taskbell.delivery SET state = 'sending', claim = gen_random_uuid(), phase = 'envelope',"
        " lease_until = '2026-11-20T10:02Z'"
    )
    told = (await in_thread(run, "why", "--user", "1")).stdout
    assert "if that has died, it is taken back at 2026-11-20 10:02:00 UTC" in told
    await tables.execute(
        "UPDATE taskbell.delivery SET state = 'unknown', claim = NULL, phase = NULL, lease_until = NULL"
    )
    told = (await in_thread(run, "why", "--user", "1")).stdout
    assert "The outcome of the last try is unknown for the overdue mail of " in told


async def test_why_tells_what_keeps_a_person_without_a_mail(tables: NotifierTables, run: Run) -> None:
    await tables.late_people(1, 2)
    await tables.execute("UPDATE public.users SET is_active = false WHERE id = 2")
    assert "User 2 is inactive" in (await in_thread(run, "why", "--user", "2")).stdout
    await tables.execute("INSERT INTO taskbell.preference (user_id, kind, enabled) VALUES (1, 'reminder', false)")
    told = " ".join((await in_thread(run, "why", "--user", "1")).stdout.split())
    assert "into a mailing now: reminder 0, overdue 1, weekly 1." in told
    assert "opted out of: reminder" in told


async def test_mailings_tell_what_became_of_an_event(tables: NotifierTables, parts: NotifierParts, run: Run) -> None:
    await tables.late_people(1)
    await parts.plan(OverdueDue(), "m1")
    await parts.plan(OverdueDue(), "m2")
    found = json.loads((await in_thread(run, "mailings", "m2", "--json")).stdout)
    assert [(row["message_id"], row["planned"], row["already"]) for row in found] == [("m2", 0, 1)]
    assert len(json.loads((await in_thread(run, "mailings", "--json")).stdout)) == 2
    assert "No such mailing" in (await in_thread(run, "mailings", "m3")).stdout


@pytest.mark.parametrize(
    "arguments",
    [("why",), ("why", "--user", "1", "--address", "a@b"), ("why", "--user", str(2**63)), ("preview", "weakly")],
)
def test_what_cannot_be_meant_is_a_mistake(run: Run, arguments: tuple[str, ...]) -> None:
    assert run(*arguments).exit_code != 0


@pytest.mark.parametrize(
    ("kind", "subject"),
    [
        ("overdue", "Subject: 2 overdue tasks"),
        ("weekly", "Subject: Your week: 2 overdue, 2 due"),
        ("test", "Subject: Test mail from Taskbell"),
        ("report", "Subject: Daily report"),
    ],
)
def test_a_preview_needs_no_database(monkeypatch: pytest.MonkeyPatch, kind: str, subject: str) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    result = CliRunner().invoke(app, ["preview", kind])
    assert result.stdout.startswith(subject)


async def test_a_preview_for_a_user_is_what_that_user_would_get(tables: NotifierTables, run: Run) -> None:
    await tables.user(1, name="Grace")
    await tables.task(1, due=-DAY, title="Mend the roof")
    text = (await in_thread(run, "preview", "overdue", "--user", "1")).stdout
    assert text.startswith("Subject: Overdue: Mend the roof")
    assert "Hello Grace" in text
    page = (await in_thread(run, "preview", "overdue", "--user", "1", "--html")).stdout
    assert page.startswith("<!DOCTYPE html>")
    assert (await in_thread(run, "preview", "reminder", "--user", "1")).exit_code != 0


async def test_what_postgresql_refuses_is_one_sentence(tables: NotifierTables, database_url: str) -> None:
    await tables.user(1)
    await tables.execute("ALTER TABLE public.users DROP COLUMN is_active")
    done = await taskbell("mail", "why", "--user", "1", DATABASE_URL=database_url)
    assert (done.status, done.err) == (
        2,
        "taskbell: PostgreSQL: column u.is_active does not exist: "
        "run `taskbell setup`; docs/app-tables.md lists the columns that the app's tables need\n",
    )
    done = await taskbell("mail", "why", "--user", "1", DATABASE_URL=database_url, APP_SCHEMA="nope")
    assert (done.status, done.err) == (
        2,
        'taskbell: PostgreSQL: relation "nope.users" does not exist: '
        "the app's tables must be in the schema that APP_SCHEMA names (docs/app-tables.md)\n",
    )
    await tables.execute("ALTER TABLE public.users RENAME TO people")
    await tables.execute("CREATE VIEW public.users AS SELECT *, 1 / (id - id) = 1 AS is_active FROM people")
    done = await taskbell("mail", "why", "--user", "1", DATABASE_URL=database_url)
    assert (done.status, done.err) == (1, "taskbell: PostgreSQL: division by zero\n")


async def test_a_preview_for_a_user_without_a_zone_is_in_the_one_that_is_set(
    tables: NotifierTables, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIMEZONE", "Asia/Tokyo")
    await tables.user(1, timezone=None)
    await tables.task(1, due=-DAY)
    text = (await in_thread(run, "preview", "overdue", "--user", "1")).stdout
    assert "Tokyo" in text
