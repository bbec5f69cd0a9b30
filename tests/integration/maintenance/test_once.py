"""Any command with a message_id, delivered five times, shuffled: its effect is there once."""

import random
from typing import Any

from tests.integration.maintenance.service import running
from tests.integration.maintenance.use_cases import Maintenance
from tests.support.management import Management
from tests.support.waiting import eventually

COMMANDS = "taskbell.commands"
DELIVERIES = 5


async def test_five_deliveries_of_each_in_any_order_take_effect_once(
    maintenance: Maintenance, database_url: str, broker_url: str, management: Management
) -> None:
    toggled, counted = await maintenance.task(), await maintenance.task()
    for _ in range(3):
        await maintenance.done(31)
    messages: list[tuple[str, str, dict[str, Any]]] = [
        ("maintenance.update_task_status", "done", {"task_id": toggled, "new_status": "done"}),
        ("maintenance.update_task_status", "unknown", {"task_id": 10**6, "new_status": "done"}),
        ("maintenance.cleanup_completed_tasks", "cleanup", {}),
        ("maintenance.cleanup_completed_tasks", "dry", {"dry_run": True}),
        ("maintenance.cleanup_completed_tasks", "refused", {"older_than_days": 0, "force": False}),
        ("maintenance.generate_task_report", "report", {}),
        ("maintenance.generate_task_report", "future", {"date": "2199-01-01"}),
    ]
    messages += [
        ("maintenance.update_task_status", f"counted-{number}", {"task_id": counted, "new_status": status})
        for number, status in enumerate(("in_progress", "pending"))
    ]
    deliveries = messages * DELIVERIES
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    random.Random(seed).shuffle(deliveries)
    listeners = {
        key: await management.listen("taskbell.events", key)
        for key in ("task.status_changed", "tasks.archived", "report.generated")
    }
    async with running(database_url, broker_url):
        for key, message_id, body in deliveries:
            assert await management.publish(COMMANDS, key, body, properties={"message_id": message_id})

        async def ended() -> bool:
            rows = await maintenance.rows("SELECT FROM taskbell.command")
            waiting = await maintenance.value("SELECT count(*) FROM taskbell.outbox WHERE published_at IS NULL")
            depths = [(await management.depth(key)).ready for key, _, _ in messages]
            return len(rows) == len(messages) and waiting == 0 and not any(depths)

        await eventually(ended, what="every command has its outcome, every event is out")

    events = {key: [it.json() for it in await management.take(queue)] for key, queue in listeners.items()}
    outcomes = {row["message_id"]: row for row in await maintenance.rows("SELECT * FROM taskbell.command")}
    assert {row["attempts"] for row in outcomes.values()} == {1}
    changes = [event["task_id"] for event in events["task.status_changed"]]
    assert changes.count(toggled) == 1
    done_by_counted = [m for m in ("counted-0", "counted-1") if outcomes[m]["state"] == "done"]
    assert changes.count(counted) == len(done_by_counted)
    assert len(changes) == 1 + len(done_by_counted)
    assert outcomes["unknown"]["state"] == outcomes["future"]["state"] == "rejected"
    archived = [event["tasks"] for event in events["tasks.archived"]]
    assert sorted(archived) == sorted([outcomes["cleanup"]["result"]["tasks"], outcomes["refused"]["result"]["tasks"]])
    assert len(await maintenance.rows("SELECT FROM taskbell.archive_batch")) == 2
    assert sum(archived) == len(await maintenance.archived())
    assert len(events["report.generated"]) == 1
    assert await maintenance.value("SELECT message_id FROM taskbell.report") == "report"
