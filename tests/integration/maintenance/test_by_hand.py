"""Commands published by a person in RabbitMQ's management UI, without any property: what becomes of each."""

import json
from typing import Any

import pytest
from tests.integration.maintenance.service import running
from tests.integration.maintenance.use_cases import Maintenance
from tests.support.management import Management, Message
from tests.support.waiting import eventually

COMMANDS = "taskbell.commands"
UPDATE = "maintenance.update_task_status"


async def _outcomes(maintenance: Maintenance, number: int = 1) -> list[dict[str, Any]]:
    async def all_there() -> list[dict[str, Any]] | None:
        rows = await maintenance.rows("SELECT * FROM taskbell.command ORDER BY received_at")
        return rows if len(rows) >= number else None

    rows = await eventually(all_there, what=f"{number} outcomes")
    assert rows is not None
    return rows


async def _dead(management: Management) -> Message:
    async def dead() -> list[Message]:
        return await management.take("maintenance.dead")

    (message,) = await eventually(dead, what="a dead letter")
    return message


async def test_a_status_update_changes_the_task(
    maintenance: Maintenance, database_url: str, broker_url: str, management: Management
) -> None:
    task = await maintenance.task()
    listener = await management.listen("taskbell.events", "task.status_changed")
    async with running(database_url, broker_url):
        assert await management.publish(COMMANDS, UPDATE, {"task_id": task, "new_status": "in_progress"})
        (command,) = await _outcomes(maintenance)
        events = await eventually(lambda: management.take(listener), what="the event")
    assert command["state"] == "done"
    assert await maintenance.status(task) == "in_progress"
    assert [event.json() for event in events] == [
        {"task_id": task, "old_status": "pending", "new_status": "in_progress", "requested_by": None}
    ]


async def test_an_unknown_task_is_rejected_in_its_row_only(
    maintenance: Maintenance, database_url: str, broker_url: str, management: Management
) -> None:
    async with running(database_url, broker_url):
        assert await management.publish(COMMANDS, UPDATE, {"task_id": 4711, "new_status": "in_progress"})
        (command,) = await _outcomes(maintenance)
    assert (command["state"], command["reason"]) == ("rejected", "task 4711 does not exist")
    assert (await management.depth("maintenance.dead")).ready == 0


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ('{"task_id": 1, "new_status": "blocked"}', "new_status: Input should be"),
        ('{"task_id": "1", "new_status": "done"}', "task_id: Input should be a valid integer"),
        ('{"task_id": 1180591620717411303424, "new_status": "done"}', "task_id: "),
        ('{"task_id": 1, "new_sta', "Invalid JSON"),
        ("[]", "Input should be an object"),
        ("", "Invalid JSON"),
        ('{"task_id": 0, "new_status": "done"}', "task_id: "),
        ('{"task_id": 1, "new_status": "done", "requested_by": "\\u0000"}', "requested_by: "),
    ],
)
async def test_what_does_not_validate_is_dead_lettered_and_rejected_with_its_reason(
    maintenance: Maintenance, database_url: str, broker_url: str, management: Management, body: str, reason: str
) -> None:
    await maintenance.task(id=1)
    async with running(database_url, broker_url):
        assert await management.publish(COMMANDS, UPDATE, body)
        dead = await _dead(management)
        (command,) = await _outcomes(maintenance)
    assert dead.body == body.encode()
    assert reason in dead.headers["x-taskbell-reason"]
    assert dead.headers["x-taskbell-queue"] == UPDATE
    assert command["state"] == "rejected"
    assert command["reason"] == dead.headers["x-taskbell-reason"]
    assert await maintenance.status(1) == "pending"


async def test_neighbours_of_what_does_not_validate_take_effect(
    maintenance: Maintenance, database_url: str, broker_url: str, management: Management
) -> None:
    tasks = [await maintenance.task() for _ in range(3)]
    for task in tasks:
        await management.publish(COMMANDS, UPDATE, {"task_id": task, "new_status": "done"})
        await management.publish(COMMANDS, UPDATE, "{")
    async with running(database_url, broker_url):
        rows = await _outcomes(maintenance, 6)
    assert sorted(row["state"] for row in rows) == ["done"] * 3 + ["rejected"] * 3
    assert [await maintenance.status(task) for task in tasks] == ["done"] * 3


async def test_a_report_and_a_cleanup_need_no_body_at_all_but_an_object(
    maintenance: Maintenance, database_url: str, broker_url: str, management: Management
) -> None:
    await maintenance.done(31)
    async with running(database_url, broker_url):
        await management.publish(COMMANDS, "maintenance.generate_task_report", {})
        await _outcomes(maintenance, 1)
        await management.publish(COMMANDS, "maintenance.cleanup_completed_tasks", {})
        report, cleanup = await _outcomes(maintenance, 2)
    assert (report["state"], cleanup["state"]) == ("done", "done")
    assert json.loads(json.dumps(cleanup["result"]))["tasks"] == 1
    assert await maintenance.value("SELECT body -> 'dead_letters' FROM taskbell.report") == {
        "maintenance.dead": 0,
        "notifier.dead": 0,
    }
