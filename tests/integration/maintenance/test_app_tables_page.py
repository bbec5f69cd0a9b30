"""docs/app-tables.md: its SQL, run as it stands, and all that Taskbell does with tasks on top of it."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest_asyncio
from sqlalchemy import event
from tests.integration.maintenance.shop import DAY, Shop, open_shop, states, wish

from taskbell.setup.privileges import GRANTS

PAGE = Path(__file__).parents[3] / "docs" / "app-tables.md"
SCHEMA = "for_taskbell"


def sql_blocks() -> list[str]:
    """The page's SQL, in order."""
    return re.findall(r"^```sql\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest_asyncio.fixture
async def shop(database_url: str) -> AsyncIterator[Shop]:
    async with open_shop(database_url, app_schema=SCHEMA) as shop:
        await shop.execute("DROP TABLE public.tasks, public.users, public.projects")
        blocks = sql_blocks()
        assert len(blocks) == 2
        for block in blocks:
            await shop.execute(block)
        yield shop


async def _task(shop: Shop, status: str = "TODO", **columns: Any) -> int:
    row = {"title": "A task", "status": status} | columns
    places = ", ".join(f"${number}" for number in range(1, len(row) + 1))
    return int(await shop.value(f"INSERT INTO task ({', '.join(row)}) VALUES ({places}) RETURNING id", *row.values()))


async def test_status_updates(shop: Shop) -> None:
    naive = shop.now.replace(tzinfo=None)
    first, second, third = await _task(shop), await _task(shop, "DONE", completed_at=naive), await _task(shop)
    outcomes = await shop.update(
        wish(first, "done", expected_status="pending"), wish(second, "pending"), wish(third, "cancelled")
    )
    assert states(outcomes) == ["done", "done", "rejected"]
    assert "invalid input value for enum public.status" in outcomes[2]["reason"]
    rows = await shop.rows("SELECT status::text, completed_at, updated_at FROM task ORDER BY id")
    assert [row["status"] for row in rows] == ["DONE", "TODO", "TODO"]
    assert naive <= rows[0]["completed_at"] == rows[0]["updated_at"] <= naive + DAY / 24
    assert rows[1]["completed_at"] is None


async def test_a_cleanup_and_the_way_back(shop: Shop) -> None:
    naive = shop.now.replace(tzinfo=None)
    await shop.execute("INSERT INTO project (name) VALUES ('Alpha'); INSERT INTO \"user\" VALUES (1, 'ann', 'ann@x')")
    old = await _task(
        shop,
        "DONE",
        completed_at=naive - 31 * DAY,
        estimate=5,
        priority="HIGH",
        project_id=1,
        user_id=1,
        due_date=naive,
        created_at=naive - 90 * DAY,
    )
    young = await _task(shop, "DONE", completed_at=naive - 29 * DAY)
    todo = await _task(shop, updated_at=naive - 99 * DAY)
    before = await shop.rows("SELECT * FROM task ORDER BY id")
    assert (await shop.clean_up(dry_run=True))["result"]["tasks"] == 1
    outcome = await shop.clean_up()

    assert outcome["result"]["tasks"] == 1
    assert [row["id"] for row in await shop.rows("SELECT id FROM task ORDER BY id")] == [young, todo]
    assert (await shop.archived())[old]["estimate"] == 5
    assert (await shop.restore(outcome["result"]["batch_id"])).tasks == 1
    assert await shop.rows("SELECT * FROM task ORDER BY id") == before


async def test_a_report(shop: Shop) -> None:
    naive = shop.now.replace(tzinfo=None)
    await shop.execute("INSERT INTO project (name) VALUES ('Alpha')")
    late = await _task(shop, "IN_PROGRESS", due_date=naive - DAY, priority="HIGH", project_id=1)
    await _task(shop, due_date=naive + DAY, created_at=naive - DAY / 2)
    await _task(shop, "DONE", completed_at=naive - DAY / 2)
    assert (await shop.report())["state"] == "done"
    body = await shop.value("SELECT body FROM taskbell.report")
    assert body["by_status"] == {"pending": 1, "in_progress": 1, "done": 1}
    assert body["by_priority"] == {"high": 1, "(none)": 2}
    assert (body["overdue"], body["created"], body["completed"]) == (1, 1, 1)
    assert [task["id"] for task in body["oldest_overdue"]] == [late]


async def test_the_role_of_the_service_needs_rights_on_the_views_only(shop: Shop) -> None:
    role = f"test_{uuid4().hex[:12]}"
    naive = shop.now.replace(tzinfo=None)
    task, _old = await _task(shop), await _task(shop, "DONE", completed_at=naive - 31 * DAY)
    await shop.execute(f"CREATE ROLE {role}; GRANT USAGE ON SCHEMA taskbell, {SCHEMA} TO {role}")
    try:
        for grant in GRANTS["maintenance"]:
            table = grant.table.replace("app.", f"{SCHEMA}.")
            await shop.execute(f"GRANT {grant.privileges} ON {table} TO {role}")

        @event.listens_for(shop.database.engine.sync_engine, "connect")
        def become(connection: Any, _: object) -> None:
            cursor = connection.cursor()
            cursor.execute(f"SET ROLE {role}")
            cursor.close()

        assert states(await shop.update(wish(task, "done"))) == ["done"]
        assert (await shop.clean_up())["result"]["tasks"] == 1
        assert (await shop.report())["state"] == "done"
        async with shop.database.transaction() as transaction:
            assert await transaction.value("SELECT current_user") == role
    finally:
        await shop.database.close()
        await shop.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
