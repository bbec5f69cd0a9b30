"""Status updates: what changes, what is refused, and what is told of it."""

import pytest
from tests.integration.maintenance.shop import DAY, Shop, received, states, wish

from taskbell.contracts import UpdateTaskStatus


async def test_a_change_sets_the_status_and_says_so(shop: Shop) -> None:
    task = await shop.task(updated_at=shop.now - DAY)
    (outcome,) = await shop.update(wish(task, "in_progress", "m1", requested_by="ann"))

    assert outcome == {
        "state": "done",
        "result": {"task_id": task, "old_status": "pending", "new_status": "in_progress"},
        "reason": None,
    }
    (row,) = await shop.rows("SELECT status, updated_at > $1 AS updated, completed_at FROM tasks", shop.now - DAY)
    assert row == {"status": "in_progress", "updated": True, "completed_at": None}
    assert await shop.events("task.status_changed") == [
        {"task_id": task, "old_status": "pending", "new_status": "in_progress", "requested_by": "ann"}
    ]
    assert await shop.value("SELECT correlation_id FROM taskbell.outbox") == "m1"


async def test_entering_done_sets_completed_at_and_leaving_it_clears_it(shop: Shop) -> None:
    task = await shop.task()
    await shop.update(wish(task, "done"))
    (row,) = await shop.rows("SELECT completed_at, updated_at FROM tasks")
    assert row["completed_at"] == row["updated_at"] > shop.now

    await shop.update(wish(task, "pending"))
    assert await shop.value("SELECT completed_at FROM tasks") is None


async def test_between_other_statuses_completed_at_stays_as_the_app_wrote_it(shop: Shop) -> None:
    completed = shop.now - DAY
    task = await shop.task(status="cancelled", completed_at=completed)
    await shop.update(wish(task, "pending"))
    assert await shop.value("SELECT completed_at FROM tasks") == completed


async def test_the_same_status_changes_nothing_and_publishes_nothing(shop: Shop) -> None:
    task = await shop.done(3)
    before = await shop.rows("SELECT * FROM tasks")
    (outcome,) = await shop.update(wish(task, "done"))
    assert outcome == {"state": "unchanged", "result": {"task_id": task, "status": "done"}, "reason": None}
    assert await shop.rows("SELECT * FROM tasks") == before
    assert await shop.events("task.status_changed") == []


async def test_an_unknown_task_is_rejected(shop: Shop) -> None:
    (outcome,) = await shop.update(wish(2**63 - 1, "done"))
    assert outcome["state"] == "rejected"
    assert outcome["reason"] == "there is no task 9223372036854775807"
    assert await shop.events("task.status_changed") == []


async def test_another_status_than_the_expected_one_is_rejected(shop: Shop) -> None:
    task = await shop.task(status="in_progress")
    wrong, right = await shop.update(
        wish(task, "cancelled", expected_status="pending"), wish(task, "done", expected_status="in_progress")
    )
    assert wrong["state"] == "rejected"
    assert wrong["reason"] == f"task {task} has status 'in_progress', not 'pending'"
    assert wrong["result"] == {"task_id": task, "status": "in_progress"}
    assert right["state"] == "done"
    assert await shop.status(task) == "done"


async def test_the_wanted_status_is_unchanged_whatever_was_expected(shop: Shop) -> None:
    task = await shop.task(status="done")
    (outcome,) = await shop.update(wish(task, "done", expected_status="pending"))
    assert outcome["state"] == "unchanged"


@pytest.mark.parametrize("old", ["blocked", "Done", ""])
async def test_a_status_unknown_to_us_can_be_left(shop: Shop, old: str) -> None:
    task = await shop.task(status=old)
    (outcome,) = await shop.update(wish(task, "pending"))
    assert outcome["state"] == "done"
    assert (await shop.events("task.status_changed"))[0]["old_status"] == old


async def test_a_task_without_status_gets_one(shop: Shop) -> None:
    await shop.execute("ALTER TABLE tasks ALTER status DROP NOT NULL")
    task = await shop.task(status=None)
    (outcome,) = await shop.update(wish(task, "done"))
    assert outcome["result"] == {"task_id": task, "old_status": None, "new_status": "done"}
    assert (await shop.events("task.status_changed"))[0]["old_status"] == ""


async def test_several_commands_for_one_task_in_a_set_follow_each_other(shop: Shop) -> None:
    task, other = await shop.task(), await shop.task()
    outcomes = await shop.update(
        wish(task, "in_progress"),
        wish(other, "done"),
        wish(task, "done", expected_status="in_progress"),
        wish(task, "done"),
        wish(task, "pending", expected_status="in_progress"),
        wish(task, "cancelled"),
    )
    assert states(outcomes) == ["done", "done", "done", "unchanged", "rejected", "done"]
    assert await shop.status(task) == "cancelled"
    assert await shop.value("SELECT completed_at FROM tasks WHERE id = $1", task) is None
    changes = [
        (event["old_status"], event["new_status"])
        for event in await shop.events("task.status_changed")
        if event["task_id"] == task
    ]
    assert changes == [("pending", "in_progress"), ("in_progress", "done"), ("done", "cancelled")]


async def test_one_message_id_twice_in_a_set_takes_effect_once(shop: Shop) -> None:
    task = await shop.task()
    await shop.statuses.update([wish(task, "done", "m1"), wish(task, "done", "m1")])
    assert (await shop.outcome("m1"))["state"] == "done"
    assert len(await shop.events("task.status_changed")) == 1


async def test_a_repeated_command_is_answered_with_the_stored_outcome(shop: Shop) -> None:
    task = await shop.task()
    command = wish(task, "done", "m1")
    first = await shop.update(command)
    await shop.update(wish(task, "pending"))
    assert await shop.update(command) == first
    assert await shop.status(task) == "pending"


async def test_without_an_id_of_its_own_a_command_is_held_to_once_by_the_status(shop: Shop) -> None:
    task = await shop.task()
    body = UpdateTaskStatus.parse(b'{"task_id": %d, "new_status": "done", "expected_status": "pending"}' % task)
    first = await shop.update(received(body, anonymous=True))
    again = await shop.update(received(body, anonymous=True, redelivered=True))
    assert states(first + again) == ["done", "unchanged"]
    assert len(await shop.events("task.status_changed")) == 1


async def test_a_status_too_long_for_a_message_can_be_left(shop: Shop) -> None:
    task = await shop.task(status="x" * 2_000)
    assert states(await shop.update(wish(task, "done"))) == ["done"]
    assert [event["old_status"] for event in await shop.events("task.status_changed")] == ["x" * 1_000]
