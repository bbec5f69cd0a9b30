"""Kinds of packages that say by statements who gets them and what: parameters, and what is wrong with one alone."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from structlog.testing import capture_logs
from tests.integration.notifier.ledger.digests import DENIED, FILES, Digests, are, digests_in
from tests.integration.notifier.ledger.notifier_parts import NotifierParts
from tests.integration.notifier.ledger.support import NotifierTables
from tests.support.scripted_smtp import ScriptedSmtp
from tests.support.waiting import eventually

from taskbell.contracts import OverdueDue
from taskbell_notifier.planning import planner as planner_module
from taskbell_notifier.planning import refusals


@pytest_asyncio.fixture
async def digests(tables: NotifierTables, tmp_path: Path) -> AsyncIterator[Digests]:
    async with digests_in(tmp_path / "site", tables) as digests:
        yield digests


async def run_planner(parts: NotifierParts) -> tuple[asyncio.Event, "asyncio.Task[None]"]:
    await parts.open_gate()
    stop = asyncio.Event()
    return stop, asyncio.create_task(parts.planner.run(stop))


async def test_exactly_those_whom_the_statement_selects_are_planned_page_by_page(
    tables: NotifierTables, digests: Digests, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planner_module, "FIRST_PAGE", 2)
    monkeypatch.setattr(planner_module, "PAGE", 2)
    parts = digests.install()
    await digests.members(*range(1, 8))
    await digests.members(8, team="blue")
    await digests.members(9, since=tables.now)
    await tables.user(10)
    await tables.execute("UPDATE public.users SET is_active = false WHERE id = 5")
    await parts.plan(digests.due())
    assert set(await tables.states()) == {f"user:{number}" for number in (1, 2, 3, 4, 6, 7)}
    await parts.plan(digests.due(team="blue", user_ids=(1, 8, 9)), "m2")
    assert "user:8" in await tables.states()
    mailings = await tables.rows("SELECT planned, already FROM taskbell.mailing ORDER BY id")
    assert mailings == [{"planned": 6, "already": 0}, {"planned": 1, "already": 0}]


async def test_what_the_statement_selects_for_a_user_is_what_the_mail_says(
    tables: NotifierTables, digests: Digests, server: ScriptedSmtp
) -> None:
    parts = digests.install()
    await digests.members(1, score=10)
    await digests.members(2, 3)
    await parts.plan(digests.due())
    await tables.execute("UPDATE public.members SET team = 'blue' WHERE user_id = 3")
    parts.add_sender(server)
    await parts.send()
    assert await tables.states() == {"user:1": "sent", "user:2": "sent", "user:3": "skipped"}
    assert (await tables.deliveries())["user:3"]["reason"] == "nothing to say"
    said = {mail.recipients[0]: mail.raw.decode() for mail in server.accepted}
    assert "Subject: Team red" in said["user1@example.org"]
    assert "1 point\r\n" in said["user1@example.org"]
    assert "2 points\r\n" in said["user2@example.org"]


async def test_a_column_that_its_tables_do_not_have_does_not_mean_everybody(
    tables: NotifierTables, digests: Digests
) -> None:
    parts = digests.install(("SELECT m.user_id FROM", "SELECT id FROM"))  # which users have, and members have not
    await digests.members(1, 2)
    await parts.plan(digests.due())
    assert await tables.states() == {}
    assert 'column "id" does not exist' in parts.health.report()["parts"]["planner of digest"]["detail"]


async def test_a_statement_that_is_denied_holds_up_its_own_mailing_alone_and_readiness_says_what_to_do(
    tables: NotifierTables, digests: Digests, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refusals, "PAUSE", 0.05)
    await tables.execute(DENIED)
    parts = digests.install(("WHERE m.team = :event", "WHERE {app}.denied() AND m.team = :event"))
    await digests.members(1)
    await tables.late_people(2)
    await parts.start(digests.due())
    stop, planner = await run_planner(parts)
    await eventually(lambda: "planner of digest" in parts.health.report()["parts"])
    await parts.start(OverdueDue(), "m2")

    async def planned() -> set[str]:
        return set(await tables.states())

    assert await eventually(planned) == {"user:2"}
    report = parts.health.report()
    assert report["parts"]["planner of digest"] == {
        "state": "degraded",
        "detail": "PostgreSQL refuses the statement that says who gets digest mails: permission denied for table "
        "members; `taskbell setup --grant acme-digest` grants what package acme-digest asks for",
    }
    assert parts.health.report()["parts"]["planner"] == {"state": "ready"}
    await tables.execute("CREATE OR REPLACE FUNCTION public.denied() RETURNS boolean LANGUAGE sql AS 'SELECT true'")

    async def both() -> bool:
        return await planned() == {"user:1", "user:2"}

    await eventually(both)
    await eventually(lambda: parts.health.report()["parts"]["planner of digest"] == {"state": "ready"})
    stop.set()
    await planner


async def test_once_a_mailing_that_is_denied_is_cancelled_readiness_no_longer_tells_of_it(
    tables: NotifierTables, digests: Digests, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refusals, "PAUSE", 0.05)
    parts = digests.install(("{app}.members AS m\n    WHERE m.team", "{app}.nowhere AS m\n    WHERE m.team"))
    await tables.user(1)
    await parts.start(digests.due())
    stop, planner = await run_planner(parts)
    await eventually(lambda: parts.health.report()["status"] == "degraded")
    await tables.execute("UPDATE taskbell.mailing SET state = 'cancelled'")
    await eventually(lambda: parts.health.report()["parts"]["planner of digest"] == {"state": "ready"})
    stop.set()
    await planner


async def mixed(tables: NotifierTables, digests: Digests, server: ScriptedSmtp) -> None:
    """Digests to 1 and 2, overdue alerts to 3 and 4, all sent as one batch."""
    await digests.members(1, 2)
    await tables.late_people(3, 4)
    await digests.parts.plan(digests.due())
    await digests.parts.plan(OverdueDue(), "m2")
    digests.parts.add_sender(server)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("m.team, 10 /", "m.teams, 10 /"), "error: column m.teams does not exist"),
        (("AND m.since < :at\n", "AND {app}.denied()\n"), "error: permission denied for table members"),
        (
            ("SELECT m.user_id, m.team,", "SELECT m.user_id AS them, m.team,"),
            "error: the statement of what digest mails say does not select user_id",
        ),
    ],
)
async def test_what_cannot_be_read_for_one_kind_leaves_the_others_of_the_batch_sent(
    tables: NotifierTables, digests: Digests, server: ScriptedSmtp, change: tuple[str, str], reason: str
) -> None:
    await tables.execute(DENIED)
    digests.install(change)
    await mixed(tables, digests, server)
    with capture_logs() as logged:
        await digests.parts.send()
        await eventually(lambda: are(tables, {1: "retry", 2: "retry", 3: "sent", 4: "sent"}))
    rows = await tables.deliveries()
    assert {rows[user]["reason"] for user in ("user:1", "user:2")} == {reason}
    (told,) = [it for it in logged if it["event"] == "mail.unreadable"]
    assert (told["kind"], len(told["delivery_ids"])) == ("digest", 2)


async def test_what_cannot_be_read_of_one_person_leaves_the_others_of_the_kind_sent(
    tables: NotifierTables, digests: Digests, server: ScriptedSmtp
) -> None:
    parts = digests.install()
    await digests.members(1, 2, 3)
    await digests.members(4, score=0)
    await parts.plan(digests.due())
    parts.add_sender(server)
    await parts.send()
    await eventually(lambda: are(tables, {1: "sent", 2: "sent", 3: "sent", 4: "retry"}))


async def test_a_compose_that_raises_fails_its_own_mail_until_that_expires(
    tables: NotifierTables, digests: Digests, server: ScriptedSmtp
) -> None:
    parts = digests.install()
    await digests.members(12, 13, 14)
    await parts.plan(digests.due())
    parts.add_sender(server)
    with capture_logs() as logged:
        await parts.send()
    await eventually(lambda: are(tables, {12: "sent", 13: "retry", 14: "sent"}))
    row = (await tables.deliveries())["user:13"]
    assert row["reason"] == "error: LookupError"
    (told,) = [it for it in logged if it["event"] == "mail.broken"]
    assert (told["kind"], told["delivery_id"]) == ("digest", row["id"])
    await tables.execute("UPDATE taskbell.delivery SET expires_at = now(), due_at = now() WHERE ended_at IS NULL")
    await parts.sweeper().sweep()
    row = (await tables.deliveries())["user:13"]
    assert (row["state"], row["reason"]) == ("expired", "not sent in time; error: LookupError")


async def test_a_template_that_fails_fails_its_own_mail(
    tables: NotifierTables, digests: Digests, server: ScriptedSmtp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FILES, "acme_digest_mail/templates/digest.txt.j2", "{{ mail.share }}\n")  # there are no props
    digests.install()
    await mixed(tables, digests, server)
    with capture_logs() as logged:
        await digests.parts.send()
    await eventually(lambda: are(tables, {1: "retry", 2: "retry", 3: "sent", 4: "sent"}))
    assert {it["kind"] for it in logged if it["event"] == "mail.broken"} == {"digest"}
    assert (await tables.deliveries())["user:1"]["reason"] == "error: UndefinedError"
