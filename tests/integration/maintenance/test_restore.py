"""Archived tasks come back whole; what cannot come back stays in the archive, and is told."""

from tests.integration.maintenance.use_cases import Maintenance

UNKNOWN_COLUMNS = """
    CREATE TYPE mood AS ENUM ('good', 'bad');
    CREATE TYPE size AS (width integer, height numeric(10, 3));
    ALTER TABLE tasks ALTER id DROP DEFAULT;
    ALTER TABLE tasks ALTER id ADD GENERATED ALWAYS AS IDENTITY (START 1000);
    ALTER TABLE tasks
        ADD "Odd ""name"" :x" text, ADD tags text[], ADD grid integer[][], ADD mood mood, ADD size size,
        ADD budget numeric, ADD ratio double precision, ADD settings jsonb, ADD raw json, ADD file bytea,
        ADD span interval, ADD period tstzrange, ADD day date, ADD clock time, ADD local timestamp, ADD token uuid,
        ADD address inet, ADD flags bit(5), ADD code char(6), ADD words tsvector, ADD place point,
        ADD title_length integer GENERATED ALWAYS AS (length(title)) STORED,
        ADD dropped text;
    ALTER TABLE tasks DROP dropped;
"""

VALUES = r"""
    UPDATE tasks SET "Odd ""name"" :x" = E'two\nlines, "quotes", \\ and \t tab', tags = ARRAY['a,b', NULL, '{c}', ''],
        grid = ARRAY[[1, 2], [3, NULL]], mood = 'bad', size = ROW(3, 1.250), budget = 1234567890123456789.1234567890,
        ratio = 0.1 + 0.2::double precision, settings = '{"a": [1, null, {"b": "ü"}]}', raw = '{"a": 1, "z": 2.50}',
        file = '\x00ff10', span = '1 year 2 days 03:04:05.000006', period = '[2026-01-01 00:00+01,)',
        day = '0044-03-15 BC', clock = '23:59:59.999999', local = 'infinity',
        token = '00000000-0000-0000-0000-00000000000a', address = '2001:db8::/32', flags = B'10101', code = 'ab',
        words = to_tsvector('english', 'quick brown foxes'), place = '(1.5,-2)',
        title = 'Ünïcödé 🎉 ' || id, due_date = '2026-03-29 02:30:00.123456+02'
    WHERE id % 2 = 0
"""


async def _cleaned(maintenance: Maintenance) -> int:
    return int((await maintenance.clean_up(force=True))["result"]["batch_id"])


async def test_rows_come_back_as_they_were_with_columns_that_we_do_not_know(maintenance: Maintenance) -> None:
    await maintenance.execute(UNKNOWN_COLUMNS)
    await maintenance.execute("""
        INSERT INTO tasks (title, status, completed_at)
        SELECT 'Task', 'done', now() - interval '40 days' FROM generate_series(1, 20)
    """)
    await maintenance.execute(VALUES)
    await maintenance.execute("CREATE TABLE before AS SELECT t.id, t::text AS row FROM tasks AS t")
    batch = await _cleaned(maintenance)
    assert await maintenance.ids() == []

    restored = await maintenance.restore(batch)
    assert (restored.tasks, restored.left, restored.unknown_columns) == (20, 0, set())
    different = (
        "SELECT b.row, t::text FROM before AS b LEFT JOIN tasks AS t USING (id) WHERE t::text IS DISTINCT FROM b.row"
    )
    assert await maintenance.rows(different) == []
    assert await maintenance.value("SELECT count(*) FROM taskbell.archived_task WHERE restored_at IS NOT NULL") == 20
    assert await maintenance.value("SELECT restored FROM taskbell.archive_batch") == 20


async def test_a_restored_batch_is_not_restored_again(maintenance: Maintenance) -> None:
    task = await maintenance.done(31)
    batch = await _cleaned(maintenance)
    await maintenance.restore(batch)
    await maintenance.execute("UPDATE tasks SET title = 'Changed since'")
    assert (await maintenance.restore(batch)).tasks == 0
    assert await maintenance.value("SELECT title FROM tasks WHERE id = $1", task) == "Changed since"


async def test_one_task_can_be_brought_back_alone(maintenance: Maintenance) -> None:
    first, second = await maintenance.done(31), await maintenance.done(31)
    batch = await _cleaned(maintenance)
    assert (await maintenance.restore(batch, second)).tasks == 1
    assert await maintenance.ids() == [second]
    assert (await maintenance.restore(batch)).tasks == 1
    assert await maintenance.ids() == [first, second]


async def test_an_id_that_exists_again_is_told_and_left(maintenance: Maintenance) -> None:
    taken, free = await maintenance.done(31), await maintenance.done(31)
    batch = await _cleaned(maintenance)
    await maintenance.task(id=taken, title="A newer one")
    restored = await maintenance.restore(batch)

    assert (restored.tasks, restored.left, restored.reasons) == (1, 1, {taken: "a task with this id exists already"})
    assert await maintenance.value("SELECT title FROM tasks WHERE id = $1", taken) == "A newer one"
    await maintenance.execute("DELETE FROM tasks WHERE id = $1", taken)
    assert (await maintenance.restore(batch)).tasks == 1
    assert await maintenance.ids() == [taken, free]


async def test_what_the_table_refuses_is_told_with_its_reason_and_left(maintenance: Maintenance) -> None:
    await maintenance.execute("INSERT INTO projects (id, name) VALUES (1, 'Gone soon'), (2, 'Stays')")
    orphan, other = await maintenance.done(31, project_id=1), await maintenance.done(31, project_id=2)
    batch = await _cleaned(maintenance)
    await maintenance.execute("DELETE FROM projects WHERE id = 1")
    restored = await maintenance.restore(batch)

    assert (restored.tasks, restored.left) == (1, 1)
    assert '"tasks_project_id_fkey"' in restored.reasons[orphan]
    assert await maintenance.ids() == [other]
    assert list(await maintenance.archived()) == [orphan, other]


async def test_only_twenty_are_named_but_all_are_counted(maintenance: Maintenance) -> None:
    await maintenance.many(1_100, "done", days=31)
    ids = await maintenance.ids()
    batch = await _cleaned(maintenance)
    await maintenance.execute("ALTER TABLE tasks ADD CHECK (id % 10 <> 0)")
    restored = await maintenance.restore(batch)
    assert (restored.tasks, restored.left) == (990, 110)
    assert list(restored.reasons) == [task for task in ids if task % 10 == 0][:20]


async def test_a_table_that_was_altered_since_gets_what_it_has_room_for(maintenance: Maintenance) -> None:
    await maintenance.execute("ALTER TABLE tasks ADD estimate integer")
    task = await maintenance.done(31, estimate=5)
    batch = await _cleaned(maintenance)
    await maintenance.execute("ALTER TABLE tasks DROP estimate, ADD team text NOT NULL DEFAULT 'none'")
    restored = await maintenance.restore(batch)
    assert (restored.tasks, restored.unknown_columns) == (1, {"estimate"})
    assert await maintenance.value("SELECT team FROM tasks WHERE id = $1", task) == "none"
    assert (await maintenance.archived())[task]["estimate"] == 5


async def test_rows_of_one_batch_may_have_different_columns(maintenance: Maintenance) -> None:
    first, second = await maintenance.done(31), await maintenance.done(31)
    batch = await _cleaned(maintenance)
    await maintenance.execute("UPDATE taskbell.archived_task SET row = row - 'priority' WHERE task_id = $1", first)
    await maintenance.execute(
        'UPDATE taskbell.archived_task SET row = row || \'{"priority": "high"}\' WHERE task_id = $1', second
    )
    await maintenance.restore(batch)
    priorities = await maintenance.rows("SELECT priority FROM tasks ORDER BY id")
    assert [row["priority"] for row in priorities] == ["medium", "high"]  # the first by the table's own default


async def test_tasks_that_refer_to_a_later_one_come_back_after_it(maintenance: Maintenance) -> None:
    await maintenance.execute("ALTER TABLE tasks ADD parent_id bigint REFERENCES tasks")
    await maintenance.many(1_500, "done", days=31)
    ids = await maintenance.ids()
    await maintenance.execute("UPDATE tasks SET parent_id = $1 WHERE id = ANY($2::bigint[])", ids[-1], ids[:3])
    restored = await maintenance.restore(await _cleaned(maintenance))
    assert (restored.tasks, restored.left) == (1_500, 0)
    assert await maintenance.ids() == ids


async def test_a_trigger_that_discards_a_row_is_noticed(maintenance: Maintenance) -> None:
    task = await maintenance.done(31)
    batch = await _cleaned(maintenance)
    await maintenance.execute("""
        CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
        CREATE TRIGGER nothing BEFORE INSERT ON tasks FOR EACH ROW EXECUTE FUNCTION nothing();
    """)
    restored = await maintenance.restore(batch)
    assert restored.reasons == {task: "a trigger or a rule of the table discarded it"}
    assert await maintenance.value("SELECT restored_at FROM taskbell.archived_task") is None
