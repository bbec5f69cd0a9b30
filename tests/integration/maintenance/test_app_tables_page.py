"""docs/app-tables.md: its SQL, run as it stands, and all that Taskbell does with tasks on top of it."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
from sqlalchemy import event
from tests.integration.maintenance.shop import DAY, Shop, open_shop, states, wish
from tests.support.app_tables_page import SCHEMA, page_sql

from taskbell.setup.privileges import GRANTS


@pytest_asyncio.fixture
async def shop(database_url: str) -> AsyncIterator[Shop]:
    async with open_shop(database_url, app_schema=SCHEMA) as shop:
        await shop.execute("DROP TABLE public.tasks, public.users, public.projects")
        sql = page_sql()
        for block in (sql.tables, sql.views, sql.indexes):
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


OPEN = "CAST(t.status AS text) IN ('pending', 'in_progress')"


@pytest.mark.parametrize(
    ("index", "condition"),
    [
        ("task_by_assignee_due", f"t.assignee_id > 5 AND t.assignee_id <= 9 AND {OPEN} AND t.due_date < now()"),
        ("task_by_assignee_due", f"t.assignee_id = 7 AND {OPEN} AND t.due_date < now()"),
        ("task_by_assignee_completed", "t.assignee_id = 7 AND t.completed_at >= now() - interval '7 days'"),
        ("task_by_due", f"{OPEN} AND t.due_date < now() ORDER BY t.due_date, t.id LIMIT 10"),
        ("task_by_completion", "coalesce(t.completed_at, t.updated_at) < now() - interval '190 days'"),
    ],
)
async def test_its_indexes_serve_what_taskbell_asks(shop: Shop, index: str, condition: str) -> None:
    await shop.execute("""
        INSERT INTO "user" SELECT i, 'u' || i, i || '@example.org' FROM generate_series(1, 500) AS i;
        INSERT INTO task (title, status, due_date, completed_at, user_id)
        SELECT 'Task', (ARRAY['TODO', 'IN_PROGRESS', 'DONE'])[1 + i % 3]::status,
            now() + (i % 200 - 100) * interval '1 day', now() - (i % 199) * interval '1 day', 1 + i % 500
        FROM generate_series(1, 50000) AS i;
        ANALYZE "user", task
    """)
    plan = await shop.rows(f"EXPLAIN SELECT t.id FROM {SCHEMA}.tasks AS t WHERE {condition}")
    assert any(index in row["QUERY PLAN"] for row in plan), plan


async def test_the_indexes_of_tables_with_our_names_are_those_that_setup_makes(database_url: str) -> None:
    indexes = "SELECT indexdef FROM pg_indexes WHERE tablename = 'tasks' AND indexname <> 'tasks_pkey' ORDER BY 1"
    async with open_shop(database_url) as shop:
        made = await shop.rows(indexes)
        for name in await shop.rows("SELECT indexname FROM pg_indexes WHERE tablename = 'tasks'"):
            if name["indexname"] != "tasks_pkey":
                await shop.execute(f"DROP INDEX {name['indexname']}")
        await shop.execute(page_sql().indexes_of_our_own)
        assert await shop.rows(indexes) == made
