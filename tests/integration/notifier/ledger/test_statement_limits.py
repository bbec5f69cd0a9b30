"""What a package's statements must not do: write, take long, select without limit, hold up other kinds."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from structlog.testing import capture_logs
from tests.integration.notifier.ledger.digests import Digests, digests_in
from tests.integration.notifier.ledger.support import NotifierTables
from tests.support.scripted_smtp import ScriptedSmtp
from tests.support.waiting import eventually

from taskbell.contracts import OverdueDue
from taskbell_notifier.delivery import sender as sender_module
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


async def test_a_what_that_takes_too_long_is_tried_once_for_all_and_again_only_after_a_pause(
    tables: NotifierTables, digests: Digests, server: ScriptedSmtp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statements, "TIMEOUT", 0.2)
    monkeypatch.setattr(sender_module, "LONG", 0.1)
    monkeypatch.setattr(sender_module, "SHARE", 3_000)
    monkeypatch.setattr(sender_module, "LONGEST", 600.0)
    parts = digests.install((OF_WHAT, "AND pg_sleep(60) IS NOT NULL\n"))
    with capture_logs() as logged:
        await mixed(tables, digests, server)
        await tables.execute("UPDATE taskbell.delivery SET next_attempt_at = now() WHERE state = 'retry'")
        await parts.send()
    told = [it["delivery_ids"] for it in logged if it["event"] == "mail.unreadable"]
    assert [len(ids) for ids in told] == [2]

    async def ended() -> bool:
        rows = await tables.deliveries()
        reason = "error: canceling statement due to statement timeout"
        return await reasons(tables) == {
            "user:1": ("retry", reason),
            "user:2": ("retry", reason),
            "user:3": ("sent", rows["user:3"]["reason"]),
        } and {rows[user]["attempts"] for user in ("user:1", "user:2")} == {1}

    assert await eventually(ended)


async def test_a_what_without_limit_does_not_fill_the_memory(
    tables: NotifierTables, digests: Digests, server: ScriptedSmtp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statements, "MOST_ROWS", 10)
    digests.install(
        ("{app}.members AS m\n    WHERE m.user_id =", "{app}.members AS m, generate_series(1, 6) WHERE m.user_id =")
    )
    await mixed(tables, digests, server)

    async def ended() -> bool:
        said = await reasons(tables)
        reason = "error: the statement of what digest mails say selects more than 10 rows for 2 users"
        return said["user:1"] == said["user:2"] == ("retry", reason) and said["user:3"][0] == "sent"

    await eventually(ended)


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
