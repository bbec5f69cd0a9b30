"""A notifier that lacks a kind of mail, beside one that has it or alone."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from tests.integration.notifier.ledger.digests import Digests, digests_in
from tests.integration.notifier.ledger.notifier_parts import NotifierParts
from tests.integration.notifier.ledger.support import NotifierTables
from tests.support.scripted_smtp import ScriptedSmtp
from tests.support.waiting import eventually

from taskbell_notifier.kinds import table
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

    parts.add_sender(server)
    await parts.send()
    await eventually(lambda: _are(tables, "sent"))


async def test_a_kind_that_nobody_has_any_more_ends(
    tables: NotifierTables, digests: Digests, without: NotifierParts, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = digests.install()
    await digests.members(1, 2)
    await parts.plan(digests.due())
    await parts.start(digests.due(force=True), "m2")
    monkeypatch.setattr(table, "GRACE", 0.2)

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
