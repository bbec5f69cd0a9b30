"""A notifier that lacks a kind of mail, beside one that has it or alone."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from tests.integration.notifier.ledger.digests import Digests, digests_in
from tests.integration.notifier.ledger.notifier_parts import NotifierParts
from tests.integration.notifier.ledger.support import NotifierTables
from tests.support.scripted_smtp import ScriptedSmtp
from tests.support.waiting import eventually

from taskbell_notifier.kinds import absent
from taskbell_notifier.kinds.absent import Absent
from taskbell_notifier.mail.render import Renderer

REASON = "kind digest is not installed"


@pytest_asyncio.fixture
async def digests(tables: NotifierTables, tmp_path: Path) -> AsyncIterator[Digests]:
    async with digests_in(tmp_path / "site", tables) as digests:
        yield digests


@pytest_asyncio.fixture
async def without(tables: NotifierTables, renderer: Renderer, server: ScriptedSmtp) -> AsyncIterator[NotifierParts]:
    """A notifier that lacks the package."""
    parts = NotifierParts(tables.database, renderer)
    parts.add_sender(server)
    yield parts
    await parts.close()


async def test_what_it_meets_is_left_to_a_notifier_that_has_the_kind(
    tables: NotifierTables, digests: Digests, without: NotifierParts, server: ScriptedSmtp
) -> None:
    parts = digests.install()
    await digests.members(1, 2)
    await parts.start(digests.due())
    assert await without.planner.plan_page()
    assert not await without.planner.plan_page()
    await parts.plan(digests.due(), "m2")
    assert await tables.states() == {"user:1": "planned", "user:2": "planned"}

    await without.send()
    await eventually(lambda: _are(tables, "planned"))
    rows = await tables.deliveries()
    assert {(row["reason"], row["attempts"]) for row in rows.values()} == {(REASON, 0)}
    assert all(row["due_at"] <= row["created_at"] + timedelta(seconds=absent.GRACE) for row in rows.values())

    parts.add_sender(server)
    await parts.send()
    await eventually(lambda: _are(tables, "sent"))


async def test_a_row_that_was_tried_before_is_left_as_it_was(
    tables: NotifierTables, digests: Digests, without: NotifierParts
) -> None:
    parts = digests.install()
    await digests.members(1, 2)
    await parts.plan(digests.due())
    await tables.execute("UPDATE taskbell.delivery SET attempts = 1, next_attempt_at = now()")
    await tables.execute("UPDATE taskbell.delivery SET state = 'retry' WHERE user_id = 1")
    await tables.execute("UPDATE taskbell.delivery SET state = 'unknown', unknown_at = now() WHERE user_id = 2")
    await without.send()

    async def as_before() -> bool:
        rows = await tables.deliveries()
        assert {row["reason"] for row in rows.values()} == {REASON}
        assert {row["attempts"] for row in rows.values()} == {1}
        return {user: row["state"] for user, row in rows.items()} == {"user:1": "retry", "user:2": "unknown"}

    assert await eventually(as_before)


async def test_a_kind_that_was_not_met_for_long_is_left_alone_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(absent, "GRACE", 0.1)
    kinds = Absent()
    assert kinds.grace_left("digest")
    await eventually(lambda: _is(not kinds.left_alone()))
    assert not kinds.grace_left("digest")
    monkeypatch.setattr(absent, "FORGOTTEN", 0.0)
    assert kinds.grace_left("digest")
    assert kinds.left_alone() == ["digest"]


async def test_a_kind_that_nobody_has_any_more_ends(
    tables: NotifierTables, digests: Digests, without: NotifierParts, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = digests.install()
    await digests.members(1, 2)
    await parts.plan(digests.due())
    await parts.start(digests.due(force=True), "m2")
    monkeypatch.setattr(absent, "GRACE", 0.2)

    async def given_up() -> bool:
        await without.send()
        while await without.planner.plan_page():
            pass
        return await _are(tables, "skipped")

    await eventually(given_up)
    assert {row["reason"] for row in (await tables.deliveries()).values()} == {REASON}
    (mailing,) = await tables.rows("SELECT state, note FROM taskbell.mailing WHERE message_id = 'm2'")
    assert mailing == {"state": "sending", "note": REASON}


async def _are(tables: NotifierTables, state: str) -> bool:
    assert set((await tables.states()).values()) == {state}
    return True


async def _is(true: bool) -> bool:
    return true
