"""Cleanups: which tasks go, which stay, what is told, and the way back."""

import asyncio
from datetime import timedelta

import pytest
from tests.integration.maintenance.use_cases import DAY, Maintenance, connect
from tests.support.received import received
from tests.support.waiting import eventually

from taskbell.contracts import CleanupCompletedTasks
from taskbell_maintenance.repository.batches import open_batch


async def test_exactly_the_old_done_ones_go(maintenance: Maintenance) -> None:
    second = timedelta(seconds=1)
    at = maintenance.now
    old = [
        await maintenance.task(status="done", completed_at=at - 30 * DAY - second),
        await maintenance.task(status="done", completed_at=None, updated_at=at - 31 * DAY),
        await maintenance.task(status="done", completed_at=at - 4000 * DAY, updated_at=at),
    ]
    stay = [
        await maintenance.task(status="done", completed_at=at - 30 * DAY),
        await maintenance.task(status="done", completed_at=at - 29 * DAY, updated_at=at - 99 * DAY),
        await maintenance.task(status="done", completed_at=None, updated_at=at),
        await maintenance.task(status="cancelled", completed_at=at - 99 * DAY, updated_at=at - 99 * DAY),
        await maintenance.task(status="pending", updated_at=at - 99 * DAY),
        await maintenance.task(status="DONE", completed_at=at - 99 * DAY),
    ]
    outcome = await maintenance.clean_up(occurrence=at)

    assert await maintenance.ids() == stay
    assert list(await maintenance.archived()) == old
    assert outcome["state"] == "done"
    result = outcome["result"]
    assert {name: result[name] for name in ("mode", "dry_run", "tasks", "held", "cutoff")} == {
        "mode": "archive",
        "dry_run": False,
        "tasks": 3,
        "held": 0,
        "cutoff": (at - 30 * DAY).isoformat(),
    }
    assert await maintenance.events("tasks.archived") == [
        {"batch_id": result["batch_id"], "tasks": 3, "held": 0, "mode": "archive"}
    ]
    (batch,) = await maintenance.rows(
        "SELECT tasks, held, finished_at IS NOT NULL AS finished FROM taskbell.archive_batch"
    )
    assert batch == {"tasks": 3, "held": 0, "finished": True}


async def test_a_command_may_name_other_days(maintenance: Maintenance) -> None:
    tasks = [await maintenance.done(days) for days in (0.5, 1.5, 2.5)]
    assert (await maintenance.clean_up(older_than_days=2))["result"]["tasks"] == 1
    assert (await maintenance.clean_up(older_than_days=0))["result"]["tasks"] == 2
    assert list(await maintenance.archived()) == tasks


async def test_with_nothing_to_take_it_is_done_and_says_so(maintenance: Maintenance) -> None:
    await maintenance.done(29)
    outcome = await maintenance.clean_up()
    assert (outcome["state"], outcome["result"]["tasks"]) == ("done", 0)
    assert len(await maintenance.events("tasks.archived")) == 1


async def test_on_request_it_deletes_without_a_trace(maintenance: Maintenance) -> None:
    await maintenance.done(31)
    outcome = await maintenance.clean_up(mode="delete")
    assert outcome["result"]["mode"] == "delete"
    assert await maintenance.ids() == []
    assert await maintenance.archived() == {}
    assert [event["mode"] for event in await maintenance.events("tasks.archived")] == ["delete"]


async def test_a_dry_run_changes_nothing_and_says_the_same_number(maintenance: Maintenance) -> None:
    await maintenance.many(1_500, "done", days=31)
    await maintenance.many(8_500)
    before = await maintenance.rows("SELECT *, xmin::text FROM tasks ORDER BY id")
    dry = await maintenance.clean_up(dry_run=True)
    assert (dry["state"], dry["result"]["tasks"], dry["result"]["dry_run"]) == ("done", 1_500, True)
    assert "needs_force" not in dry["result"]
    assert await maintenance.rows("SELECT *, xmin::text FROM tasks ORDER BY id") == before
    assert await maintenance.rows("SELECT * FROM taskbell.archive_batch") == []
    assert await maintenance.events("tasks.archived") == []

    assert (await maintenance.clean_up())["result"]["tasks"] == 1_500


@pytest.mark.parametrize(
    ("done", "rest", "allowed"),
    [
        (20, 80, True),  # exactly the share
        (21, 79, False),
        (99, 0, True),  # fewer than a hundred tasks: the guard is silent
        (100, 0, False),
        (24, 96, True),
        (25, 96, False),
    ],
)
async def test_more_than_the_share_of_all_tasks_needs_force(
    maintenance: Maintenance, done: int, rest: int, allowed: bool
) -> None:
    await maintenance.many(done, "done", days=31)
    await maintenance.many(rest)
    dry = await maintenance.clean_up(dry_run=True)
    assert dry["result"]["tasks"] == done
    assert ("needs_force" not in dry["result"]) == allowed

    outcome = await maintenance.clean_up("m1")
    assert outcome["state"] == ("done" if allowed else "rejected")
    if allowed:
        return
    assert outcome["reason"].startswith(f"it would take {done} of {done + rest} tasks, more than the share of 0.20")
    assert outcome["result"] == {"tasks": done, "of": done + rest}
    assert len(await maintenance.ids()) == done + rest
    assert await maintenance.rows("SELECT * FROM taskbell.archive_batch") == []
    assert await maintenance.events("tasks.archived") == []
    forced = await maintenance.clean_up(force=True)
    assert (forced["state"], forced["result"]["tasks"]) == ("done", done)


async def test_the_guard_does_not_stop_a_cleanup_that_it_has_let_pass(maintenance: Maintenance) -> None:
    """The share grows while tasks go; only what the command would take as a whole counts."""
    await maintenance.many(20, "done", days=31)
    await maintenance.many(80)
    command = received(CleanupCompletedTasks(), "m1")
    async with maintenance.database.transaction() as transaction:
        await open_batch(transaction, command, maintenance.now - 30 * DAY)
    await maintenance.execute("DELETE FROM tasks WHERE id > 50")
    await maintenance.execute("INSERT INTO tasks (title, status) SELECT 'More', 'pending' FROM generate_series(1, 49)")
    assert (await maintenance.clean_up("m1"))["result"]["tasks"] == 20


async def test_a_task_that_is_reopened_meanwhile_stays(maintenance: Maintenance, database_url: str) -> None:
    reopened, old = await maintenance.done(31), await maintenance.done(31)
    other = await connect(database_url)
    try:
        transaction = other.transaction()
        await transaction.start()
        await other.execute("UPDATE tasks SET status = 'pending', completed_at = NULL WHERE id = $1", reopened)
        async with _slow_locks(maintenance):
            cleanup = asyncio.create_task(maintenance.clean_up())
            await eventually(lambda: _somebody_waits(maintenance), what="the cleanup waits for the row")
            await transaction.commit()
            outcome = await cleanup
    finally:
        await other.close()
    assert outcome["result"]["tasks"] == 1
    assert (await maintenance.ids(), list(await maintenance.archived())) == ([reopened], [old])


async def test_what_another_transaction_has_locked_stays_and_holds_nobody_up(
    maintenance: Maintenance, database_url: str
) -> None:
    locked, old = await maintenance.done(31), await maintenance.done(31)
    other = await connect(database_url)
    try:
        transaction = other.transaction()
        await transaction.start()
        await other.execute("UPDATE tasks SET title = 'Being edited' WHERE id = $1", locked)
        outcome = await maintenance.clean_up()
        await transaction.commit()
    finally:
        await other.close()
    assert outcome["result"]["tasks"] == 1
    assert outcome["result"]["held_ids"] == [locked]
    assert outcome["result"]["held_reasons"] == ["another transaction has it locked"]
    assert list(await maintenance.archived()) == [old]
    assert (await maintenance.clean_up())["result"]["tasks"] == 1


async def test_an_updated_row_is_archived_as_it_is_at_last(maintenance: Maintenance, database_url: str) -> None:
    task = await maintenance.done(31)
    other = await connect(database_url)
    try:
        transaction = other.transaction()
        await transaction.start()
        await other.execute("UPDATE tasks SET title = 'Renamed' WHERE id = $1", task)
        async with _slow_locks(maintenance):
            cleanup = asyncio.create_task(maintenance.clean_up())
            await eventually(lambda: _somebody_waits(maintenance), what="the cleanup waits for the row")
            await transaction.commit()
            await cleanup
    finally:
        await other.close()
    assert (await maintenance.archived())[task]["title"] == "Renamed"


@pytest.mark.parametrize("every", [7, 50, 12_000])
async def test_old_ones_that_are_few_and_far_between_are_all_found(maintenance: Maintenance, every: int) -> None:
    await maintenance.execute(f"""
        INSERT INTO tasks (id, title, status, completed_at)
        SELECT 10 + 3 * i, 'Task', CASE WHEN i % {every} = 0 THEN 'done' ELSE 'pending' END,
            now() - interval '40 days'
        FROM generate_series(1, 36000) AS i
    """)
    dry = await maintenance.clean_up(dry_run=True)
    outcome = await maintenance.clean_up()
    assert dry["result"]["tasks"] == outcome["result"]["tasks"] == 36_000 // every
    assert await maintenance.value("SELECT count(*) FROM tasks WHERE status = 'done'") == 0


class _slow_locks:
    """Lets a cleanup wait for locks as long as a test needs: without it, it would soon pass a locked row by."""

    def __init__(self, maintenance: Maintenance) -> None:
        self._patch = pytest.MonkeyPatch()

    async def __aenter__(self) -> None:
        self._patch.setattr("taskbell_maintenance.repository.archive.LOCK_TIMEOUT", "60s")

    async def __aexit__(self, *_: object) -> None:
        self._patch.undo()


async def _somebody_waits(maintenance: Maintenance) -> bool:
    return bool(
        await maintenance.value(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
    )
