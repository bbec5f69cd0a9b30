"""docs/app-tables.md: its SQL, run as it stands, and all that Taskbell does with tasks on top of it."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
from sqlalchemy import event
from tests.integration.maintenance.use_cases import DAY, Maintenance, open_maintenance, states, status_update
from tests.support.app_tables_page import SCHEMA, page_sql

from taskbell.setup.privileges import GRANTS


@pytest_asyncio.fixture
async def maintenance(database_url: str) -> AsyncIterator[Maintenance]:
    async with open_maintenance(database_url, app_schema=SCHEMA) as maintenance:
        await maintenance.execute("DROP TABLE public.tasks, public.users, public.projects")
        sql = page_sql()
        for block in (sql.tables, sql.views, sql.indexes):
            await maintenance.execute(block)
        yield maintenance


async def _task(maintenance: Maintenance, status: str = "TODO", **columns: Any) -> int:
    row = {"title": "A task", "status": status} | columns
    places = ", ".join(f"${number}" for number in range(1, len(row) + 1))
    return int(
        await maintenance.value(f"INSERT INTO task ({', '.join(row)}) VALUES ({places}) RETURNING id", *row.values())
    )


async def test_status_updates(maintenance: Maintenance) -> None:
    naive = maintenance.now.replace(tzinfo=None)
    first, second, third = (
        await _task(maintenance),
        await _task(maintenance, "DONE", completed_at=naive),
        await _task(maintenance),
    )
    outcomes = await maintenance.update(
        status_update(first, "done", expected_status="pending"),
        status_update(second, "pending"),
        status_update(third, "cancelled"),
    )
    assert states(outcomes) == ["done", "done", "rejected"]
    assert "invalid input value for enum public.status" in outcomes[2]["reason"]
    rows = await maintenance.rows("SELECT status::text, completed_at, updated_at FROM task ORDER BY id")
    assert [row["status"] for row in rows] == ["DONE", "TODO", "TODO"]
    assert naive <= rows[0]["completed_at"] == rows[0]["updated_at"] <= naive + DAY / 24
    assert rows[1]["completed_at"] is None


async def test_a_cleanup_and_the_way_back(maintenance: Maintenance) -> None:
    naive = maintenance.now.replace(tzinfo=None)
    await maintenance.execute(
        "INSERT INTO project (name) VALUES ('Alpha'); INSERT INTO \"user\" VALUES (1, 'ann', 'ann@x')"
    )
    old = await _task(
        maintenance,
        "DONE",
        completed_at=naive - 31 * DAY,
        estimate=5,
        priority="HIGH",
        project_id=1,
        user_id=1,
        due_date=naive,
        created_at=naive - 90 * DAY,
    )
    young = await _task(maintenance, "DONE", completed_at=naive - 29 * DAY)
    todo = await _task(maintenance, updated_at=naive - 99 * DAY)
    before = await maintenance.rows("SELECT * FROM task ORDER BY id")
    assert (await maintenance.clean_up(dry_run=True))["result"]["tasks"] == 1
    outcome = await maintenance.clean_up()

    assert outcome["result"]["tasks"] == 1
    assert [row["id"] for row in await maintenance.rows("SELECT id FROM task ORDER BY id")] == [young, todo]
    assert (await maintenance.archived())[old]["estimate"] == 5
    assert (await maintenance.restore(outcome["result"]["batch_id"])).tasks == 1
    assert await maintenance.rows("SELECT * FROM task ORDER BY id") == before


async def test_a_report(maintenance: Maintenance) -> None:
    naive = maintenance.now.replace(tzinfo=None)
    await maintenance.execute("INSERT INTO project (name) VALUES ('Alpha')")
    late = await _task(maintenance, "IN_PROGRESS", due_date=naive - DAY, priority="HIGH", project_id=1)
    await _task(maintenance, due_date=naive + DAY, created_at=naive - DAY / 2)
    await _task(maintenance, "DONE", completed_at=naive - DAY / 2)
    assert (await maintenance.report())["state"] == "done"
    body = await maintenance.value("SELECT body FROM taskbell.report")
    assert body["by_status"] == {"pending": 1, "in_progress": 1, "done": 1}
    assert body["by_priority"] == {"high": 1, "(none)": 2}
    assert (body["overdue"], body["created"], body["completed"]) == (1, 1, 1)
    assert [task["id"] for task in body["oldest_overdue"]] == [late]


async def test_the_role_of_the_service_needs_rights_on_the_views_only(maintenance: Maintenance) -> None:
    role = f"test_{uuid4().hex[:12]}"
    naive = maintenance.now.replace(tzinfo=None)
    task, _old = await _task(maintenance), await _task(maintenance, "DONE", completed_at=naive - 31 * DAY)
    await maintenance.execute(f"CREATE ROLE {role}; GRANT USAGE ON SCHEMA taskbell, {SCHEMA} TO {role}")
    try:
        for grant in GRANTS["maintenance"]:
            table = grant.table.replace("app.", f"{SCHEMA}.")
            await maintenance.execute(f"GRANT {', '.join(grant.privileges)} ON {table} TO {role}")

        @event.listens_for(maintenance.database.engine.sync_engine, "connect")
        def become(connection: Any, _: object) -> None:
            cursor = connection.cursor()
            cursor.execute(f"SET ROLE {role}")
            cursor.close()

        assert states(await maintenance.update(status_update(task, "done"))) == ["done"]
        assert (await maintenance.clean_up())["result"]["tasks"] == 1
        assert (await maintenance.report())["state"] == "done"
        async with maintenance.database.transaction() as transaction:
            assert await transaction.value("SELECT current_user") == role
    finally:
        await maintenance.database.close()
        await maintenance.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


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
async def test_its_indexes_serve_what_taskbell_asks(maintenance: Maintenance, index: str, condition: str) -> None:
    await maintenance.execute("""
        INSERT INTO "user" SELECT i, 'u' || i, i || '@example.org' FROM generate_series(1, 500) AS i;
        INSERT INTO task (title, status, due_date, completed_at, user_id)
        SELECT 'Task', (ARRAY['TODO', 'IN_PROGRESS', 'DONE'])[1 + i % 3]::status,
            now() + (i % 200 - 100) * interval '1 day', now() - (i % 199) * interval '1 day', 1 + i % 500
        FROM generate_series(1, 50000) AS i;
        ANALYZE "user", task
    """)
    plan = await maintenance.rows(f"EXPLAIN SELECT t.id FROM {SCHEMA}.tasks AS t WHERE {condition}")
    assert any(index in row["QUERY PLAN"] for row in plan), plan


async def test_the_indexes_of_tables_with_our_names_are_those_that_setup_makes(database_url: str) -> None:
    indexes = "SELECT indexdef FROM pg_indexes WHERE tablename = 'tasks' AND indexname <> 'tasks_pkey' ORDER BY 1"
    async with open_maintenance(database_url) as maintenance:
        made = await maintenance.rows(indexes)
        for name in await maintenance.rows("SELECT indexname FROM pg_indexes WHERE tablename = 'tasks'"):
            if name["indexname"] != "tasks_pkey":
                await maintenance.execute(f"DROP INDEX {name['indexname']}")
        await maintenance.execute(page_sql().indexes_of_our_own)
        assert await maintenance.rows(indexes) == made
