"""A set of status updates means what its commands mean one by one, whoever else writes to the table."""

import asyncio
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.integration.maintenance.use_cases import Maintenance, connect, open_maintenance, states, status_update
from tests.support.waiting import eventually

from taskbell.errors import Retry

STATUSES = ("pending", "in_progress", "done", "cancelled")

REFUSING = """
    ALTER TABLE tasks ADD CHECK (status <> 'cancelled' OR id % 2 = 0);
    CREATE FUNCTION no_way_back() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF OLD.status = 'done' AND NEW.status = 'in_progress' THEN
            RAISE EXCEPTION 'a done task % is not taken up again', OLD.id;
        ELSIF NEW.status = 'pending' AND OLD.id = 3 THEN
            RETURN NULL;
        END IF;
        RETURN NEW;
    END $$;
    CREATE TRIGGER no_way_back BEFORE UPDATE ON tasks FOR EACH ROW EXECUTE FUNCTION no_way_back();
"""

command = st.tuples(
    st.integers(1, 6),  # of which 1 to 5 exist
    st.sampled_from(STATUSES),
    st.none() | st.sampled_from(STATUSES),
    st.sampled_from(["m1", "m2", None, None, None, None]),  # some come twice
)


async def _fresh(maintenance: Maintenance) -> None:
    await maintenance.execute("TRUNCATE tasks, taskbell.outbox, taskbell.command")
    for task, status in enumerate(("pending", "in_progress", "done", "blocked", "pending"), start=1):
        await maintenance.task(id=task, status=status, completed_at=maintenance.now if status == "done" else None)


async def _seen(maintenance: Maintenance, ids: list[str]) -> dict[str, Any]:
    outcomes = {row["message_id"]: row for row in await maintenance.rows("SELECT * FROM taskbell.command")}
    return {
        "tasks": await maintenance.rows("SELECT id, status, completed_at IS NULL AS open FROM tasks ORDER BY id"),
        "outcomes": [tuple(outcomes[i][name] for name in ("state", "result", "reason")) for i in ids],
        "events": sorted(await maintenance.events("task.status_changed"), key=lambda event: event["task_id"]),
    }


@pytest.mark.parametrize("refusing", ["", REFUSING], ids=["plain table", "table that refuses"])
async def test_commands_applied_together_equal_them_applied_one_by_one(database_url: str, refusing: str) -> None:
    async with open_maintenance(database_url) as maintenance:
        await maintenance.execute(refusing or "SELECT")

        async def check(wanted: list[tuple[int, str, str | None, str | None]]) -> None:
            ids = [message_id or f"c{number}" for number, (*_, message_id) in enumerate(wanted)]
            commands = [
                status_update(task, status, message_id, **({"expected_status": expected} if expected else {}))
                for (task, status, expected, _), message_id in zip(wanted, ids, strict=True)
            ]
            await _fresh(maintenance)
            await maintenance.statuses.update(commands)
            together = await _seen(maintenance, ids)
            await _fresh(maintenance)
            for one in commands:
                await maintenance.statuses.update([one])
            assert together == await _seen(maintenance, ids)

        loop = asyncio.get_running_loop()

        @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(st.lists(command, min_size=1, max_size=12))
        def examples(wanted: list[tuple[int, str, str | None, str | None]]) -> None:
            asyncio.run_coroutine_threadsafe(check(wanted), loop).result(60)

        await asyncio.to_thread(examples)


async def test_one_refused_by_the_table_harms_nobody(maintenance: Maintenance) -> None:
    await maintenance.execute("ALTER TABLE tasks ADD CONSTRAINT no_cancelling CHECK (status <> 'cancelled')")
    tasks = [await maintenance.task() for _ in range(5)]
    outcomes = await maintenance.update(
        *(status_update(task, "cancelled" if task == tasks[2] else "done") for task in tasks)
    )

    assert states(outcomes) == ["done", "done", "rejected", "done", "done"]
    assert outcomes[2]["reason"] == (
        'the table of tasks refused it: new row for relation "tasks" violates check constraint "no_cancelling"'
    )
    assert [await maintenance.status(task) for task in tasks] == ["done", "done", "pending", "done", "done"]
    assert [event["task_id"] for event in await maintenance.events("task.status_changed")] == tasks[:2] + tasks[3:]


async def test_what_a_trigger_makes_of_it_is_what_is_told(maintenance: Maintenance) -> None:
    await maintenance.execute("""
        CREATE FUNCTION to_review() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN IF NEW.status = 'done' THEN NEW.status = 'review'; END IF; RETURN NEW; END $$;
        CREATE TRIGGER to_review BEFORE UPDATE ON tasks FOR EACH ROW EXECUTE FUNCTION to_review();
    """)
    task = await maintenance.task()
    first, second = await maintenance.update(status_update(task, "done"), status_update(task, "done"))
    assert first["result"] == {"task_id": task, "old_status": "pending", "new_status": "review"}
    assert second["reason"] == "a trigger or a rule of the table of tasks discarded the change"
    assert [event["new_status"] for event in await maintenance.events("task.status_changed")] == ["review"]


async def test_a_change_that_somebody_else_makes_meanwhile_is_not_lost(
    maintenance: Maintenance, database_url: str
) -> None:
    task = await maintenance.task()
    other = await connect(database_url)
    try:
        transaction = other.transaction()
        await transaction.start()
        await other.execute("UPDATE tasks SET status = 'in_progress', title = 'Renamed' WHERE id = $1", task)
        update = asyncio.create_task(maintenance.update(status_update(task, "done", expected_status="pending")))
        await eventually(lambda: _waits_for_a_lock(maintenance), what="the command waits for the row")
        await transaction.commit()
    finally:
        await other.close()
    (outcome,) = await update
    assert outcome["state"] == "rejected"
    assert await maintenance.rows("SELECT status, title FROM tasks") == [{"status": "in_progress", "title": "Renamed"}]


async def test_a_row_that_stays_locked_is_left_to_be_tried_again(maintenance: Maintenance, database_url: str) -> None:
    task = await maintenance.task()
    other = await connect(database_url)
    try:
        transaction = other.transaction()
        await transaction.start()
        await other.execute("UPDATE tasks SET title = 'Renamed' WHERE id = $1", task)
        with pytest.raises(Retry, match="locked by another transaction"):
            await maintenance.update(status_update(task, "done"))
        await transaction.rollback()
    finally:
        await other.close()
    assert await maintenance.rows("SELECT * FROM taskbell.command") == []


async def _waits_for_a_lock(maintenance: Maintenance) -> bool:
    return bool(
        await maintenance.value(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
    )
