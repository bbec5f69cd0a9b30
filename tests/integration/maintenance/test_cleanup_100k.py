"""Cleanup of 100,000 tasks: exactly the old ones, in small transactions, and all of them back."""

from collections.abc import AsyncIterator

import pytest_asyncio
from tests.integration.maintenance.use_cases import Maintenance, open_maintenance

OLD, TASKS = 12_345, 100_000

DELETIONS = """
    CREATE TABLE deletions (transaction xid8, tasks bigint);
    CREATE FUNCTION note_deletion() RETURNS trigger LANGUAGE plpgsql SET search_path = public AS $$
    BEGIN
        INSERT INTO deletions SELECT pg_current_xact_id(), count(*) FROM gone;
        RETURN NULL;
    END $$;
    CREATE TRIGGER note_deletion AFTER DELETE ON tasks REFERENCING OLD TABLE AS gone
        FOR EACH STATEMENT EXECUTE FUNCTION note_deletion();
"""


@pytest_asyncio.fixture(scope="module")
async def filled(module_database_url: str) -> AsyncIterator[Maintenance]:
    async with open_maintenance(module_database_url) as maintenance:
        # Every eighth of the first OLD * 8 ids is done and old; the others are young, open, or of odd statuses.
        await maintenance.execute(f"""
            INSERT INTO projects (id, name) SELECT i, 'Project ' || i FROM generate_series(1, 50) AS i;
            INSERT INTO users (id, name) SELECT i, 'User ' || i FROM generate_series(1, 100) AS i;
            INSERT INTO tasks (id, title, description, status, priority, due_date, created_at, updated_at,
                completed_at, project_id, assignee_id)
            SELECT i, 'Task ' || i, CASE WHEN i % 3 = 0 THEN repeat('words ', i % 40) END,
                CASE WHEN i % 8 = 0 AND i <= {OLD} * 8 THEN 'done'
                    ELSE (ARRAY['pending', 'in_progress', 'done', 'cancelled', 'blocked'])[1 + i % 5] END,
                'high', now() - i * interval '1 minute', now() - interval '90 days', now() - interval '60 days',
                CASE WHEN i % 8 = 0 AND i <= {OLD} * 8 THEN now() - interval '30 days' - i * interval '1 second'
                    WHEN i % 5 = 2 THEN now() - i * interval '1 second' END,
                1 + i % 50, 1 + i % 100
            FROM generate_series(1, {TASKS}) AS i;
            CREATE TABLE before AS SELECT * FROM tasks;
            {DELETIONS}
        """)
        yield maintenance


async def test_a_dry_run_a_run_and_a_restore_of_a_hundred_thousand_tasks(filled: Maintenance) -> None:
    maintenance = filled
    dry = await maintenance.clean_up(dry_run=True)
    assert dry["result"]["tasks"] == OLD
    assert await maintenance.value("SELECT count(*) FROM tasks") == TASKS
    assert await maintenance.value("SELECT count(*) FROM deletions") == 0

    outcome = await maintenance.clean_up()
    assert outcome["result"]["tasks"] == OLD
    expected = "id % 8 = 0 AND id <= $1 * 8"
    assert await maintenance.value("SELECT count(*) FROM tasks") == TASKS - OLD
    assert await maintenance.value(f"SELECT count(*) FROM tasks WHERE {expected}", OLD) == 0
    sizes = [
        row["tasks"]
        for row in await maintenance.rows("SELECT sum(tasks)::int AS tasks FROM deletions GROUP BY transaction")
    ]
    assert sum(sizes) == OLD
    assert max(sizes) <= 1_000

    restored = await maintenance.restore(outcome["result"]["batch_id"])
    assert (restored.tasks, restored.left) == (OLD, 0)
    for missing, where in (("before", "tasks"), ("tasks", "before")):
        assert await maintenance.rows(f"SELECT * FROM {missing} EXCEPT SELECT * FROM {where}") == []
    assert await maintenance.value("SELECT count(*) FROM tasks") == TASKS
