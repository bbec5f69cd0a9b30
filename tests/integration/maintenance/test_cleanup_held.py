"""What a cleanup cannot take stays, is counted, and is named with the reason."""

import pytest
from tests.integration.maintenance.use_cases import Maintenance, connect

COMMENTS = "CREATE TABLE comments (id serial PRIMARY KEY, task_id bigint NOT NULL REFERENCES tasks {action})"


@pytest.mark.parametrize("action", ["", "ON DELETE RESTRICT", "DEFERRABLE INITIALLY DEFERRED"])
@pytest.mark.parametrize("mode", ["archive", "delete"])
async def test_a_task_held_by_a_foreign_key_stays(maintenance: Maintenance, action: str, mode: str) -> None:
    tasks = [await maintenance.done(31) for _ in range(5)]
    await maintenance.execute(COMMENTS.format(action=action))
    held = [tasks[1], tasks[4]]
    await maintenance.execute("INSERT INTO comments (task_id) SELECT unnest($1::bigint[])", held)
    dry = await maintenance.clean_up(dry_run=True, mode=mode)
    result = (await maintenance.clean_up(mode=mode))["result"]

    assert (result["tasks"], result["held"], result["held_ids"]) == (3, 2, held)
    assert len(result["held_reasons"]) == 1
    assert '"comments_task_id_fkey"' in result["held_reasons"][0]
    assert {name: dry["result"][name] for name in ("tasks", "held", "held_ids", "held_reasons")} == {
        name: result[name] for name in ("tasks", "held", "held_ids", "held_reasons")
    }
    assert await maintenance.ids() == held
    assert list(await maintenance.archived()) == ([] if mode == "delete" else [tasks[0], tasks[2], tasks[3]])
    assert [event["held"] for event in await maintenance.events("tasks.archived")] == [2]


async def test_all_are_counted_but_only_twenty_named(maintenance: Maintenance) -> None:
    await maintenance.many(1_300, "done", days=31)
    await maintenance.execute(COMMENTS.format(action=""))
    await maintenance.execute("CREATE INDEX ON comments (task_id)")
    await maintenance.execute("INSERT INTO comments (task_id) SELECT id FROM tasks WHERE id % 2 = 0")
    result = (await maintenance.clean_up(force=True))["result"]
    assert (result["tasks"], result["held"]) == (650, 650)
    assert result["held_ids"] == [task for task in await maintenance.ids() if task % 2 == 0][:20]


async def test_a_trigger_that_refuses_holds_its_task(maintenance: Maintenance) -> None:
    kept, silent, gone = (
        await maintenance.done(31, title="keep"),
        await maintenance.done(31, title="quiet"),
        await maintenance.done(31),
    )
    await maintenance.execute("""
        CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF OLD.title = 'keep' THEN RAISE EXCEPTION 'this one is kept'; END IF;
            IF OLD.title = 'quiet' THEN RETURN NULL; END IF;
            RETURN OLD;
        END $$;
        CREATE TRIGGER keep BEFORE DELETE ON tasks FOR EACH ROW EXECUTE FUNCTION keep();
    """)
    result = (await maintenance.clean_up())["result"]
    assert (result["tasks"], result["held_ids"]) == (1, [kept, silent])
    assert result["held_reasons"] == ["this one is kept", "a trigger or a rule of the table kept it"]
    assert list(await maintenance.archived()) == [gone]


async def test_subtasks_are_not_deleted_along_with_their_task(maintenance: Maintenance) -> None:
    """ON DELETE CASCADE would delete them unseen: open ones too, and none of them archived."""
    await maintenance.execute('ALTER TABLE tasks ADD "parent:of" bigint REFERENCES tasks ON DELETE CASCADE')
    family, open_child = await maintenance.done(31), await maintenance.task()
    grandparent, parent, young_child = await maintenance.done(31), await maintenance.done(31), await maintenance.done(3)
    whole, old_child = await maintenance.done(31), await maintenance.done(31)
    children = {open_child: family, parent: grandparent, young_child: parent, old_child: whole}
    for child, its_parent in children.items():
        await maintenance.execute('UPDATE tasks SET "parent:of" = $1 WHERE id = $2', its_parent, child)
    result = (await maintenance.clean_up(force=True))["result"]

    assert await maintenance.ids() == [family, open_child, grandparent, parent, young_child]
    assert (result["tasks"], result["held_ids"]) == (2, [family, grandparent, parent])
    assert result["held_reasons"] == ["tasks that refer to it by parent:of would be deleted with it"]
    assert list(await maintenance.archived()) == [whole, old_child]


async def test_what_cascades_elsewhere_goes_with_its_task(maintenance: Maintenance) -> None:
    await maintenance.done(31)
    await maintenance.execute(COMMENTS.format(action="ON DELETE CASCADE"))
    await maintenance.execute("INSERT INTO comments (task_id) SELECT id FROM tasks")
    assert (await maintenance.clean_up())["result"]["tasks"] == 1
    assert await maintenance.value("SELECT count(*) FROM comments") == 0


@pytest.mark.parametrize("mode", ["archive", "delete"])
async def test_a_task_stays_whose_comment_another_transaction_has_locked(
    maintenance: Maintenance, database_url: str, mode: str
) -> None:
    edited, old = await maintenance.done(31), await maintenance.done(31)
    await maintenance.execute(COMMENTS.format(action="ON DELETE CASCADE"))
    await maintenance.execute("INSERT INTO comments (task_id) SELECT id FROM tasks")
    other = await connect(database_url)
    try:
        transaction = other.transaction()
        await transaction.start()
        await other.execute("SELECT FROM comments WHERE task_id = $1 FOR UPDATE", edited)
        result = (await maintenance.clean_up(mode=mode, force=True))["result"]
        await transaction.rollback()
    finally:
        await other.close()
    assert (result["tasks"], result["held_ids"]) == (1, [edited])
    assert result["held_reasons"] == ["canceling statement due to lock timeout"]
    assert await maintenance.ids() == [edited]
    assert list(await maintenance.archived()) == ([old] if mode == "archive" else [])


async def test_slow_deletions_make_pages_small(maintenance: Maintenance) -> None:
    """An index that the app has forgotten: each deletion looks through a table."""
    await maintenance.many(300, "done", days=31)
    await maintenance.execute("""
        CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN PERFORM pg_sleep(0.01); RETURN OLD; END $$;
        CREATE TRIGGER slowly BEFORE DELETE ON tasks FOR EACH ROW EXECUTE FUNCTION slowly();
    """)
    assert (await maintenance.clean_up(force=True))["result"]["tasks"] == 300
    pages = await maintenance.rows("SELECT count(*) AS tasks FROM taskbell.archived_task GROUP BY xmin")
    assert max(page["tasks"] for page in pages) == 50
    assert min(page["tasks"] for page in pages) < 25
