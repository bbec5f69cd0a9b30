"""Status updates and cleanups on the tables that apps really have: other types, enums, views."""

import asyncio

import pytest
from tests.integration.maintenance.use_cases import Maintenance, connect, states, status_update
from tests.support.waiting import eventually

from taskbell.errors import Retry

ENUM = """
    DROP TABLE tasks;
    CREATE TYPE "Task Status" AS ENUM ('pending', 'in_progress', 'done');
    CREATE TABLE tasks (
        id serial PRIMARY KEY, title varchar(80), description text, status "Task Status", priority varchar(10),
        due_date timestamp, created_at timestamp, updated_at timestamp, completed_at timestamp,
        project_id integer, assignee_id integer
    );
"""

VIEW = """
    ALTER TABLE tasks RENAME TO work;
    CREATE VIEW tasks AS
        SELECT id, title, description, lower(status) AS status, priority, due_date, created_at, updated_at,
            completed_at, project_id, assignee_id FROM work;
"""

JOINED = """
    ALTER TABLE tasks RENAME TO work;
    CREATE VIEW tasks AS
        SELECT w.id, w.title, w.description, w.status, w.priority, w.due_date, w.created_at, w.updated_at,
            w.completed_at, w.project_id, w.assignee_id, p.name AS project_name
        FROM work AS w LEFT JOIN projects AS p ON p.id = w.project_id;
"""

TRIGGERS = """
    CREATE FUNCTION tasks_update() RETURNS trigger LANGUAGE plpgsql SET search_path = public AS $$
    BEGIN
        UPDATE work SET status = NEW.status, title = NEW.title, updated_at = NEW.updated_at,
            completed_at = NEW.completed_at WHERE id = OLD.id;
        RETURN NEW;
    END $$;
    CREATE FUNCTION tasks_delete() RETURNS trigger LANGUAGE plpgsql SET search_path = public AS $$
    BEGIN
        DELETE FROM work WHERE id = OLD.id;
        RETURN OLD;
    END $$;
    CREATE TRIGGER updated INSTEAD OF UPDATE ON tasks FOR EACH ROW EXECUTE FUNCTION tasks_update();
    CREATE TRIGGER deleted INSTEAD OF DELETE ON tasks FOR EACH ROW EXECUTE FUNCTION tasks_delete();
"""


async def test_integer_ids_an_enum_and_times_without_zone(maintenance: Maintenance) -> None:
    await maintenance.execute(ENUM)
    await maintenance.execute("INSERT INTO tasks (status) VALUES ('pending'), ('done'), ('in_progress')")
    outcomes = await maintenance.update(
        status_update(1, "done"),
        status_update(2, "pending"),
        status_update(3, "cancelled"),
        status_update(2**40, "done"),
    )

    assert states(outcomes) == ["done", "done", "rejected", "rejected"]
    assert outcomes[2]["reason"] == (
        'the table of tasks refused it: invalid input value for enum public."Task Status": "cancelled"'
    )
    assert [await maintenance.status(task) for task in (1, 2, 3)] == ["done", "pending", "in_progress"]
    assert await maintenance.value(
        "SELECT abs(extract(epoch FROM completed_at - now()::timestamp)) < 60 FROM tasks WHERE id = 1"
    )


async def test_a_cleanup_of_such_a_table_and_the_way_back(maintenance: Maintenance) -> None:
    await maintenance.execute(ENUM)
    await maintenance.execute("""
        INSERT INTO tasks (title, status, completed_at, updated_at) VALUES
            ('Old', 'done', now() AT TIME ZONE 'UTC' - interval '31 days', now()),
            ('Never completed', 'done', NULL, now() AT TIME ZONE 'UTC' - interval '31 days'),
            ('Young', 'done', now() AT TIME ZONE 'UTC' - interval '29 days', now()),
            ('Open', 'pending', NULL, now() AT TIME ZONE 'UTC' - interval '31 days')
    """)
    before = await maintenance.rows("SELECT * FROM tasks ORDER BY id")
    outcome = await maintenance.clean_up()
    assert outcome["result"]["tasks"] == 2
    assert await maintenance.ids() == [3, 4]

    assert (await maintenance.restore(outcome["result"]["batch_id"])).tasks == 2
    assert await maintenance.rows("SELECT * FROM tasks ORDER BY id") == before


@pytest.mark.parametrize("view", [VIEW, JOINED], ids=["rows can be locked", "rows cannot be locked"])
async def test_a_view_with_triggers(maintenance: Maintenance, view: str) -> None:
    tasks = [await maintenance.task(), await maintenance.task(), await maintenance.done(31), await maintenance.done(29)]
    await maintenance.execute(view + TRIGGERS)
    outcomes = await maintenance.update(
        status_update(tasks[0], "done"), status_update(tasks[1], "done"), status_update(tasks[1], "pending")
    )

    assert states(outcomes) == ["done", "done", "done"]
    assert [await maintenance.status(task) for task in tasks] == ["done", "pending", "done", "done"]
    cleaned = await maintenance.clean_up(force=True)
    assert cleaned["result"]["tasks"] == 1
    assert await maintenance.value("SELECT array_agg(id ORDER BY id) FROM work") == [tasks[0], tasks[1], tasks[3]]
    assert (await maintenance.archived())[tasks[2]]["title"] == "A task"


@pytest.mark.parametrize("view", [VIEW, JOINED], ids=["rows can be locked", "rows cannot be locked"])
async def test_through_a_view_no_update_of_others_is_lost(
    maintenance: Maintenance, database_url: str, view: str
) -> None:
    """The trigger writes the whole row back: read before another's commit, it would undo that."""
    task = await maintenance.task()
    await maintenance.execute(view + TRIGGERS)
    other = await connect(database_url)
    try:
        transaction = other.transaction()
        await transaction.start()
        await other.execute("UPDATE work SET title = 'Renamed' WHERE id = $1", task)
        update = asyncio.create_task(maintenance.update(status_update(task, "done")))
        await eventually(lambda: _somebody_waits(maintenance), what="the command waits for the row")
        await transaction.commit()
    finally:
        await other.close()
    await update
    assert await maintenance.rows("SELECT title, status FROM work") == [{"title": "Renamed", "status": "done"}]


async def test_a_view_without_triggers_refuses_with_its_reason(maintenance: Maintenance) -> None:
    """No answer to one command, but something for an operator to mend: it is tried again, then told as failed."""
    task = await maintenance.task()
    await maintenance.execute(VIEW)
    with pytest.raises(Exception, match="cannot update column"):
        await maintenance.update(status_update(task, "done"))


async def _somebody_waits(maintenance: Maintenance) -> bool:
    return bool(
        await maintenance.value(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
    )


async def test_a_view_that_is_replaced_meanwhile_is_locked_as_it_needs(maintenance: Maintenance) -> None:
    task = await maintenance.task()
    await maintenance.update(status_update(task, "in_progress"))  # a table: its rows are locked
    await maintenance.execute(JOINED + TRIGGERS)
    with pytest.raises(Exception, match="FOR UPDATE"):
        await maintenance.update(status_update(task, "done"))  # as any unexpected error, to be tried again
    assert states(await maintenance.update(status_update(task, "done"))) == ["done"]


async def test_tables_below_a_view_that_stay_locked_put_a_cleanup_off(
    maintenance: Maintenance, database_url: str
) -> None:
    await maintenance.done(31)
    await maintenance.execute(JOINED + TRIGGERS)
    other = await connect(database_url)
    try:
        transaction = other.transaction()
        await transaction.start()
        await other.execute("INSERT INTO work (title) VALUES ('Being written')")
        with pytest.raises(Retry, match="other transactions locked"):
            await maintenance.clean_up()
        await transaction.rollback()
    finally:
        await other.close()
    assert (await maintenance.clean_up())["result"]["tasks"] == 1
