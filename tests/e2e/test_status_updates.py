"""Status updates by hand, through RabbitMQ's management API, with no property at all."""

import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.support.installation import Installation
from tests.support.management import Message
from tests.support.waiting import eventually

from taskbell_devstack import demo_data

KEY = "maintenance.update_task_status"
TASK = 65  # pending in the demo's data


@pytest.fixture
async def filled(installation: Installation) -> Installation:
    await demo_data.load(installation.database_url, datetime.now(UTC))
    return installation


async def publish(installation: Installation, body: Any, **properties: Any) -> None:
    assert await installation.management.publish("taskbell.commands", KEY, body, properties=properties)


async def outcomes(installation: Installation, count: int = 1) -> list[dict[str, Any]]:
    """The rows of that many commands, in the order of their ends."""

    async def look() -> list[dict[str, Any]]:
        installation.check_running()
        rows = await installation.rows("SELECT * FROM taskbell.command ORDER BY finished_at, message_id")
        return rows if len(rows) >= count else []

    found = await eventually(look, what=f"{count} outcomes")
    assert len(found) == count
    return found


async def dead_letters(installation: Installation, count: int = 1) -> list[Message]:
    found: list[Message] = []

    async def look() -> bool:
        found.extend(await installation.management.take("maintenance.dead"))
        return len(found) >= count

    await eventually(look, what=f"{count} dead letters")
    assert len(found) == count
    return found


async def status(installation: Installation, task: int = TASK) -> str:
    return str(await installation.value("SELECT status FROM tasks WHERE id = $1", task))


async def test_a_command_by_hand_changes_the_task_and_tells_everybody(filled: Installation) -> None:
    listener = await filled.management.listen("taskbell.events", "task.status_changed")
    before = await filled.value("SELECT updated_at FROM tasks WHERE id = $1", TASK)

    await publish(filled, {"task_id": TASK, "new_status": "in_progress"})

    (command,) = await outcomes(filled)
    assert command["state"] == "done"
    assert await status(filled) == "in_progress"
    assert await filled.value("SELECT updated_at FROM tasks WHERE id = $1", TASK) > before

    (event,) = await eventually(lambda: filled.management.take(listener), what="the event")
    assert event.json() == {
        "task_id": TASK,
        "old_status": "pending",
        "new_status": "in_progress",
        "requested_by": None,
    }


async def test_an_unknown_task_is_rejected_and_nothing_is_dead_lettered(filled: Installation) -> None:
    await publish(filled, {"task_id": 4_000, "new_status": "done"})
    (command,) = await outcomes(filled)
    assert command["state"] == "rejected"
    assert "4000" in command["reason"]
    assert (await filled.management.depth("maintenance.dead")).ready == 0


async def test_another_status_than_expected_is_rejected(filled: Installation) -> None:
    await publish(filled, {"task_id": TASK, "new_status": "done", "expected_status": "in_progress"})
    (command,) = await outcomes(filled)
    assert command["state"] == "rejected"
    assert await status(filled) == "pending"


@pytest.mark.parametrize(
    ("body", "named"),
    [
        pytest.param({"task_id": TASK, "new_status": "finished"}, "new_status", id="unknown status"),
        pytest.param({"task_id": str(TASK), "new_status": "done"}, "task_id", id="text for a number"),
        pytest.param({"task_id": 2**70, "new_status": "done"}, "task_id", id="an id of 2^70"),
        pytest.param({"new_status": "done"}, "task_id", id="no task"),
        pytest.param("[]", "", id="no object"),
        pytest.param('{"task_id": 65, "new_status": ', "", id="broken JSON"),
        pytest.param(b"\xff\xfe\x00", "", id="no text at all"),
    ],
)
async def test_what_does_not_validate_is_a_dead_letter_and_a_rejected_command(
    filled: Installation, body: Any, named: str
) -> None:
    before = await filled.rows("SELECT * FROM tasks ORDER BY id")
    await publish(filled, body)

    (dead_letter,) = await dead_letters(filled)
    (command,) = await outcomes(filled)

    assert dead_letter.body == (body if isinstance(body, bytes) else dead_letter.body)
    assert dead_letter.headers["x-taskbell-queue"] == "maintenance.update_task_status"
    assert dead_letter.headers["x-taskbell-exchange"] == "taskbell.commands"
    assert dead_letter.headers["x-taskbell-routing-key"] == KEY
    assert dead_letter.headers["x-taskbell-reason"] == command["reason"]
    assert named in command["reason"]
    assert command["state"] == "rejected"
    assert await filled.rows("SELECT * FROM tasks ORDER BY id") == before


async def test_a_good_command_among_bad_ones_takes_effect(filled: Installation) -> None:
    for task in (4_000, TASK, 2**70):
        await publish(filled, {"task_id": task, "new_status": "in_progress"})
        await publish(filled, "{")

    states = sorted(row["state"] for row in await outcomes(filled, 6))

    assert states == ["done", "rejected", "rejected", "rejected", "rejected", "rejected"]
    assert await status(filled) == "in_progress"
    assert len(await dead_letters(filled, 4)) == 4


async def test_the_same_message_takes_effect_once(filled: Installation) -> None:
    once = str(uuid.uuid4())
    listener = await filled.management.listen("taskbell.events", "task.status_changed")
    await publish(filled, {"task_id": TASK, "new_status": "in_progress"}, message_id=once)
    await outcomes(filled)
    await publish(filled, {"task_id": TASK, "new_status": "pending"})
    await outcomes(filled, 2)

    await publish(filled, {"task_id": TASK, "new_status": "in_progress"}, message_id=once)
    # One more, so that the repeated one has been dealt with when this one has.
    await publish(filled, {"task_id": TASK + 1, "new_status": "cancelled"})

    await outcomes(filled, 3)
    assert await status(filled) == "pending"

    async def told() -> list[Message]:
        found.extend(await filled.management.take(listener))
        return found if len(found) >= 3 else []

    found: list[Message] = []
    changes = [(it.json()["task_id"], it.json()["new_status"]) for it in await eventually(told)]
    assert changes == [(TASK, "in_progress"), (TASK, "pending"), (TASK + 1, "cancelled")]


async def test_the_same_status_again_is_unchanged_and_not_told(filled: Installation) -> None:
    listener = await filled.management.listen("taskbell.events", "task.status_changed")
    await publish(filled, {"task_id": TASK, "new_status": "pending"})
    (command,) = await outcomes(filled)
    assert command["state"] == "unchanged"
    assert await filled.value("SELECT count(*) FROM taskbell.outbox") == 0
    assert (await filled.management.depth(listener)).ready == 0


async def test_whoever_asks_for_a_reply_gets_the_outcome(filled: Installation) -> None:
    await filled.management.call("PUT", "/queues/{vhost}/reply.test", {"durable": True})
    body = {"task_id": TASK, "new_status": "done"}
    await publish(filled, body, reply_to="reply.test", correlation_id="mine", message_id="asked")

    (reply,) = await eventually(lambda: filled.management.take("reply.test"), what="the reply")

    assert reply.json()["state"] == "done"
    assert reply.json()["message_id"] == "asked"
    assert reply.properties["correlation_id"] == "mine"


async def test_a_reply_that_nobody_can_get_changes_nothing(filled: Installation) -> None:
    await publish(filled, {"task_id": TASK, "new_status": "done"}, reply_to="reply.gone")
    (command,) = await outcomes(filled)
    assert command["state"] == "done"
    assert await status(filled) == "done"

    async def acknowledged() -> bool:
        queue = await filled.management.call("GET", "/queues/{vhost}/maintenance.update_task_status")
        return bool(queue.get("messages", 1) == 0)

    await eventually(acknowledged, what="the acknowledgement")
