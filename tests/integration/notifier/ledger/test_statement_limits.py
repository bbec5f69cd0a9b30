"""What a package's statements must not do: write, take long, select without limit, hold up other kinds."""

from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from structlog.testing import capture_logs
from tests.integration.notifier.ledger.digests import Digests, are, digests_in
from tests.integration.notifier.ledger.support import NotifierTables
from tests.support.scripted_smtp import ScriptedSmtp
from tests.support.waiting import eventually

from taskbell.contracts import OverdueDue
from taskbell_notifier.delivery import sender as sender_module
from taskbell_notifier.kinds import pauses
from taskbell_notifier.planning import planner as planner_module
from taskbell_notifier.repository import statements

WRITES = """
    CREATE FUNCTION public.leaves() RETURNS boolean LANGUAGE plpgsql AS $$
    BEGIN DELETE FROM public.members; RETURN true; END $$
"""
OF_WHAT = "AND m.since < :at\n"


@pytest_asyncio.fixture
async def digests(tables: NotifierTables, tmp_path: Path) -> AsyncIterator[Digests]:
    async with digests_in(tmp_path / "site", tables) as digests:
        yield digests


async def mixed(tables: NotifierTables, digests: Digests, server: ScriptedSmtp) -> None:
    """Digests to 1 and 2, an overdue alert to 3, all sent as one batch."""
    await digests.members(1, 2)
    await tables.late_people(3)
    await digests.parts.plan(digests.due())
    await digests.parts.plan(OverdueDue(), "m2")
    digests.parts.add_sender(server)
    await digests.parts.send()


def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes 0.2 s takes too long from now on."""
    monkeypatch.setattr(statements, "TIMEOUT", 0.2)
    monkeypatch.setattr(sender_module, "LONG", 0.1)


async def due_now(tables: NotifierTables) -> None:
    await tables.execute("UPDATE taskbell.delivery SET next_attempt_at = now() WHERE state = 'retry'")


def unreadable(logged: Sequence[Mapping[str, Any]]) -> list[int]:
    """The numbers of mails of which the log says that they cannot be read."""
    return [len(it.get("delivery_ids", [0])) for it in logged if it["event"] == "mail.unreadable"]


async def reasons(tables: NotifierTables) -> dict[str, tuple[str, str]]:
    return {user: (row["state"], row["reason"]) for user, row in (await tables.deliveries()).items()}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            (OF_WHAT, "AND {app}.leaves()\n"),
            "error: the statement of what digest mails say writes, which it must not",
        ),
        (
            ("SELECT m.user_id, m.team,", "WITH d AS (DELETE FROM {app}.members) SELECT m.user_id, m.team,"),
            "error: WITH clause containing a data-modifying statement must be at the top level",
        ),
    ],
)
async def test_a_what_that_writes_is_refused_and_does_not_pass_for_a_standby(
    tables: NotifierTables, digests: Digests, server: ScriptedSmtp, change: tuple[str, str], reason: str
) -> None:
    await tables.execute(WRITES)
    digests.install(change)
    await mixed(tables, digests, server)

    async def ended() -> bool:
        said = await reasons(tables)
        return said["user:1"] == said["user:2"] == ("retry", reason) and said["user:3"][0] == "sent"

    await eventually(ended)
    assert len(await tables.rows("SELECT * FROM public.members")) == 2


async def test_a_who_that_deletes_is_refused(tables: NotifierTables, digests: Digests) -> None:
    parts = digests.install(
        ("SELECT m.user_id FROM {app}.members AS m\n    WHERE m.team", "DELETE FROM {app}.members AS m WHERE m.team"),
        ("AND m.since < :at::timestamptz - interval '1 day'\n        AND m.user_id >", "RETURNING m.user_id --"),
    )
    await digests.members(1)
    await parts.plan(digests.due())
    assert await tables.states() == {}
    assert len(await tables.rows("SELECT * FROM public.members")) == 1
    assert parts.health.report()["parts"]["planner of digest"]["state"] == "degraded"


SLEEPS_FOR_TWO = (OF_WHAT, "AND (m.user_id <> 2 OR pg_sleep(60) IS NOT NULL)\n")


async def test_a_what_that_takes_too_long_is_tried_once_for_all_and_again_only_after_a_pause(
    tables: NotifierTables, digests: Digests, server: ScriptedSmtp, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient(monkeypatch)
    monkeypatch.setattr(pauses, "FACTOR", 3_000)
    parts = digests.install((OF_WHAT, "AND pg_sleep(60) IS NOT NULL\n"))
    with capture_logs() as logged:
        await mixed(tables, digests, server)
        await due_now(tables)
        await parts.send()
    assert unreadable(logged) == [2]
    canceled = "error: canceling statement due to statement timeout"

    async def put_off() -> bool:
        rows = await tables.deliveries()
        waiting = [rows["user:1"], rows["user:2"]]
        soon = await tables.value("SELECT now() + interval '15 minutes' >= max(next_attempt_at) FROM taskbell.delivery")
        return (
            {(row["state"], row["reason"], row["attempts"]) for row in waiting} == {("retry", canceled, 1)}
            and rows["user:3"]["state"] == "sent"
            and soon
        )

    assert await eventually(put_off)


async def test_after_the_pause_it_is_read_in_smaller_parts_so_that_one_user_delays_the_others_no_more(
    tables: NotifierTables, digests: Digests, server: ScriptedSmtp, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient(monkeypatch)
    monkeypatch.setattr(sender_module, "BATCH", 2)
    monkeypatch.setattr(pauses, "FACTOR", 0)
    parts = digests.install(SLEEPS_FOR_TWO)
    with capture_logs() as logged:
        await mixed(tables, digests, server)
        await eventually(lambda: are(tables, {1: "retry", 2: "retry", 3: "sent"}))
        await due_now(tables)
        await parts.send()
        await eventually(lambda: are(tables, {1: "sent", 2: "retry", 3: "sent"}))
    assert unreadable(logged) == [2, 1]


async def test_a_paused_row_of_unknown_outcome_is_still_of_unknown_outcome(
    tables: NotifierTables, digests: Digests, server: ScriptedSmtp, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient(monkeypatch)
    monkeypatch.setattr(pauses, "FACTOR", 3_000)
    parts = digests.install((OF_WHAT, "AND pg_sleep(60) IS NOT NULL\n"))
    await mixed(tables, digests, server)
    await eventually(lambda: are(tables, {1: "retry", 2: "retry", 3: "sent"}))
    await tables.execute(
        "UPDATE taskbell.delivery SET state = 'unknown', unknown_at = now(), next_attempt_at = now() WHERE user_id = 1"
    )
    await parts.send()

    async def returned() -> bool:
        row = (await tables.deliveries())["user:1"]
        later = row["next_attempt_at"] > tables.now
        return later and (row["state"], row["attempts"], row["resends"]) == ("unknown", 1, 0)

    assert await eventually(returned)


@pytest.mark.parametrize("whose", ["who", "what"])
async def test_what_a_statement_reads_may_be_away_without_our_database_counting_as_away(
    tables: NotifierTables, digests: Digests, server: ScriptedSmtp, whose: str
) -> None:
    function = """
        CREATE FUNCTION public.away() RETURNS boolean LANGUAGE plpgsql AS $$
        BEGIN
            RAISE sqlclient_unable_to_establish_sqlconnection USING MESSAGE = 'could not connect to server "fdw"';
        END $$
    """
    await tables.execute(function)
    of_who = ("WHERE m.team = :event", "WHERE {app}.away() AND m.team = :event")
    parts = digests.install(of_who if whose == "who" else (OF_WHAT, "AND {app}.away()\n"))
    await mixed(tables, digests, server)
    if whose == "who":
        await eventually(lambda: are(tables, {3: "sent"}))
        assert parts.health.report()["parts"]["planner of digest"] == {
            "state": "degraded",
            "detail": 'the statement that says who gets digest mails fails: could not connect to server "fdw"',
        }
    else:
        await eventually(lambda: are(tables, {1: "retry", 2: "retry", 3: "sent"}))
        reason = 'error: the statement of what digest mails say fails: could not connect to server "fdw"'
        assert (await reasons(tables))["user:1"] == ("retry", reason)


async def test_a_what_without_limit_does_not_fill_the_memory_and_the_other_users_get_their_mails(
    tables: NotifierTables, digests: Digests, server: ScriptedSmtp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statements, "MOST_ROWS", 10)
    digests.install(
        (
            "{app}.members AS m\n    WHERE m.user_id =",
            "{app}.members AS m, generate_series(1, CASE m.user_id WHEN 1 THEN 11 ELSE 1 END) WHERE m.user_id =",
        )
    )
    await mixed(tables, digests, server)
    await eventually(lambda: are(tables, {1: "retry", 2: "sent", 3: "sent"}))
    reason = "error: the statement of what digest mails say selects more than 10 rows for 1 users"
    assert (await reasons(tables))["user:1"] == ("retry", reason)


async def test_a_who_that_takes_long_and_finds_nobody_does_not_come_first_each_time(
    tables: NotifierTables, digests: Digests, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planner_module, "SLOW", 0.0)
    monkeypatch.setattr(planner_module, "FIRST_PAGE", 1)
    monkeypatch.setattr(planner_module, "PAGE", 1)
    parts = digests.install()
    await digests.members(1, 2, 3, team="blue")
    await tables.late_people(4)
    await parts.start(digests.due())
    await parts.start(OverdueDue(), "m2")
    planned = []
    while await parts.planner.plan_page():
        (row,) = await tables.rows(
            "SELECT string_agg(kind || ' ' || cursor, ', ' ORDER BY kind) AS at FROM taskbell.mailing"
        )
        planned.append(row["at"])
    assert planned[:2] == ["digest 1, overdue 0", "digest 1, overdue 1"]
    assert await tables.states() == {"user:4": "planned"}
    left = await tables.rows("SELECT state FROM taskbell.mailing WHERE state = 'planning'")
    assert left == []
