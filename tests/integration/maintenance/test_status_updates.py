"""Status updates: what changes, what is refused, and what is told of it."""

import pytest
from tests.integration.maintenance.use_cases import DAY, Maintenance, states, status_update
from tests.support.received import received

from taskbell.contracts import UpdateTaskStatus


async def test_a_change_sets_the_status_and_says_so(maintenance: Maintenance) -> None:
    task = await maintenance.task(updated_at=maintenance.now - DAY)
    (outcome,) = await maintenance.update(status_update(task, "in_progress", "m1", requested_by="ann"))

    assert outcome == {
        "state": "done",
        "result": {"task_id": task, "old_status": "pending", "new_status": "in_progress"},
        "reason": None,
    }
    (row,) = await maintenance.rows(
        "SELECT status, updated_at > $1 AS updated, completed_at FROM tasks", maintenance.now - DAY
    )
    assert row == {"status": "in_progress", "updated": True, "completed_at": None}
    assert await maintenance.events("task.status_changed") == [
        {"task_id": task, "old_status": "pending", "new_status": "in_progress", "requested_by": "ann"}
    ]
    assert await maintenance.value("SELECT correlation_id FROM taskbell.outbox") == "m1"


async def test_entering_done_sets_completed_at_and_leaving_it_clears_it(maintenance: Maintenance) -> None:
    task = await maintenance.task()
    await maintenance.update(status_update(task, "done"))
    (row,) = await maintenance.rows("SELECT completed_at, updated_at FROM tasks")
    assert row["completed_at"] == row["updated_at"] > maintenance.now

    await maintenance.update(status_update(task, "pending"))
    assert await maintenance.value("SELECT completed_at FROM tasks") is None


async def test_between_other_statuses_completed_at_stays_as_the_app_wrote_it(maintenance: Maintenance) -> None:
    completed = maintenance.now - DAY
    task = await maintenance.task(status="cancelled", completed_at=completed)
    await maintenance.update(status_update(task, "pending"))
    assert await maintenance.value("SELECT completed_at FROM tasks") == completed


async def test_the_same_status_changes_nothing_and_publishes_nothing(maintenance: Maintenance) -> None:
    task = await maintenance.done(3)
    before = await maintenance.rows("SELECT * FROM tasks")
    (outcome,) = await maintenance.update(status_update(task, "done"))
    assert outcome == {"state": "unchanged", "result": {"task_id": task, "status": "done"}, "reason": None}
    assert await maintenance.rows("SELECT * FROM tasks") == before
    assert await maintenance.events("task.status_changed") == []


async def test_an_unknown_task_is_rejected(maintenance: Maintenance) -> None:
    (outcome,) = await maintenance.update(status_update(2**63 - 1, "done"))
    assert outcome["state"] == "rejected"
    assert outcome["reason"] == "task 9223372036854775807 does not exist"
    assert await maintenance.events("task.status_changed") == []


async def test_another_status_than_the_expected_one_is_rejected(maintenance: Maintenance) -> None:
    task = await maintenance.task(status="in_progress")
    wrong, right = await maintenance.update(
        status_update(task, "cancelled", expected_status="pending"),
        status_update(task, "done", expected_status="in_progress"),
    )
    assert wrong["state"] == "rejected"
    assert wrong["reason"] == f"task {task} has status 'in_progress', not 'pending'"
    assert wrong["result"] == {"task_id": task, "status": "in_progress"}
    assert right["state"] == "done"
    assert await maintenance.status(task) == "done"


async def test_the_wanted_status_is_unchanged_whatever_was_expected(maintenance: Maintenance) -> None:
    task = await maintenance.task(status="done")
    (outcome,) = await maintenance.update(status_update(task, "done", expected_status="pending"))
    assert outcome["state"] == "unchanged"


@pytest.mark.parametrize("old", ["blocked", "Done", ""])
async def test_a_status_unknown_to_us_can_be_left(maintenance: Maintenance, old: str) -> None:
    task = await maintenance.task(status=old)
    (outcome,) = await maintenance.update(status_update(task, "pending"))
    assert outcome["state"] == "done"
    assert (await maintenance.events("task.status_changed"))[0]["old_status"] == old


async def test_a_task_without_status_gets_one(maintenance: Maintenance) -> None:
    await maintenance.execute("ALTER TABLE tasks ALTER status DROP NOT NULL")
    task = await maintenance.task(status=None)
    (outcome,) = await maintenance.update(status_update(task, "done"))
    assert outcome["result"] == {"task_id": task, "old_status": None, "new_status": "done"}
    assert (await maintenance.events("task.status_changed"))[0]["old_status"] == ""


async def test_several_commands_for_one_task_in_a_set_follow_each_other(maintenance: Maintenance) -> None:
    task, other = await maintenance.task(), await maintenance.task()
    outcomes = await maintenance.update(
        status_update(task, "in_progress"),
        status_update(other, "done"),
        status_update(task, "done", expected_status="in_progress"),
        status_update(task, "done"),
        status_update(task, "pending", expected_status="in_progress"),
        status_update(task, "cancelled"),
    )
    assert states(outcomes) == ["done", "done", "done", "unchanged", "rejected", "done"]
    assert await maintenance.status(task) == "cancelled"
    assert await maintenance.value("SELECT completed_at FROM tasks WHERE id = $1", task) is None
    changes = [
        (event["old_status"], event["new_status"])
        for event in await maintenance.events("task.status_changed")
        if event["task_id"] == task
    ]
    assert changes == [("pending", "in_progress"), ("in_progress", "done"), ("done", "cancelled")]


async def test_one_message_id_twice_in_a_set_takes_effect_once(maintenance: Maintenance) -> None:
    task = await maintenance.task()
    await maintenance.statuses.update([status_update(task, "done", "m1"), status_update(task, "done", "m1")])
    assert (await maintenance.outcome("m1"))["state"] == "done"
    assert len(await maintenance.events("task.status_changed")) == 1


async def test_a_repeated_command_is_answered_with_the_stored_outcome(maintenance: Maintenance) -> None:
    task = await maintenance.task()
    command = status_update(task, "done", "m1")
    first = await maintenance.update(command)
    await maintenance.update(status_update(task, "pending"))
    assert await maintenance.update(command) == first
    assert await maintenance.status(task) == "pending"


async def test_without_an_id_of_its_own_a_command_is_held_to_once_by_the_status(maintenance: Maintenance) -> None:
    task = await maintenance.task()
    body = UpdateTaskStatus.parse(b'{"task_id": %d, "new_status": "done", "expected_status": "pending"}' % task)
    first = await maintenance.update(received(body, anonymous=True))
    again = await maintenance.update(received(body, anonymous=True, redelivered=True))
    assert states(first + again) == ["done", "unchanged"]
    assert len(await maintenance.events("task.status_changed")) == 1


async def test_a_status_too_long_for_a_message_can_be_left(maintenance: Maintenance) -> None:
    task = await maintenance.task(status="x" * 2_000)
    assert states(await maintenance.update(status_update(task, "done"))) == ["done"]
    assert [event["old_status"] for event in await maintenance.events("task.status_changed")] == ["x" * 1_000]
