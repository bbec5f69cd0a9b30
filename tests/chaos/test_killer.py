"""A message whose handler kills the process: it alone goes to the dead letters, whatever waits beside it."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest

from taskbell.messaging.topology import topology
from taskbell_devstack.errors import NotReady
from taskbell_devstack.services import ServiceProgram
from taskbell_devstack.stack import Stack
from tests.chaos.support import crashing_maintenance
from tests.chaos.support.arrivals import Arrivals
from tests.chaos.support.figures import Figures
from tests.chaos.support.plan import Plan
from tests.support.inbox import Inbox
from tests.support.installation import Installation
from tests.support.servers import STACK, Run
from tests.support.vhosts import Vhost
from tests.support.waiting import eventually

ROW = "a handler that kills its process"
QUEUE, COMMANDS = "maintenance.update_task_status", "taskbell.commands"
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.full)])
async def test_a_message_that_kills_its_process_goes_to_the_dead_letters_alone(
    processes: int, plan: Plan, seed: int, figures: Figures, database_url: str, vhost: Vhost, inbox: Inbox
) -> None:
    chance = random.Random(seed)
    installation = Installation(database_url, vhost, inbox)
    # Each delivery costs the start of a process. With two, one may have others in hand when the killer comes to it.
    limit, neighbours = plan.pick(quick=(3 if processes == 1 else 8, 20), full=(20, 200))
    await with_delivery_limit(vhost, limit)
    tasks = range(1, neighbours + 1)
    await installation.insert(
        "tasks", [{"id": task, "title": "A", "status": "pending", "priority": "low"} for task in tasks]
    )
    messages = [*tasks]
    messages.insert(chance.randrange(neighbours), crashing_maintenance.TASK)
    for task in messages:
        body = {"task_id": task, "new_status": "done"}
        assert await vhost.management.publish(COMMANDS, QUEUE, body, properties={"message_id": f"update-{task}"})

    environment = installation.environment() | {"PYTHONPATH": str(ROOT)}
    services = [
        ServiceProgram(f"crashing-{number}-{vhost.name}", crashing_maintenance.__name__, environment)
        for number in range(processes)
    ]
    async with Arrivals(vhost.url, "maintenance.dead") as dead_letters:

        async def over() -> bool:
            return bool(dead_letters.messages) and await ended(installation) + len(dead_letters.messages) > neighbours

        starts = sum(await asyncio.gather(*(kept_running(service, over, at_most=3 * limit) for service in services)))
        ids = dead_letters.ids()

    assert ids == [f"update-{crashing_maintenance.TASK}"], f"SEED={seed}"
    done = await installation.rows("SELECT message_id FROM taskbell.command WHERE state = 'done'")
    assert {row["message_id"] for row in done} == {f"update-{task}" for task in tasks}, f"SEED={seed}"
    figures.note(ROW, f"starts of {processes} until it was rid of the message", starts, at_most=limit + 1 + processes)


async def ended(installation: Installation) -> int:
    """How many commands have their outcome."""
    return int(await installation.value("SELECT count(*) FROM taskbell.command"))


async def kept_running(service: ServiceProgram, over: Callable[[], Awaitable[bool]], *, at_most: int) -> int:
    """Starts the service again whenever it has died, as its supervisor does, until that is so; how often."""
    stack = Stack(Run.current().folder / STACK, servers=())
    starts = 0
    try:
        while not await over():
            assert starts < at_most, "it goes on and on"
            starts += 1
            with suppress(NotReady):  # it may be dead again before anybody saw that it was ready
                await asyncio.to_thread(stack.run_services, [service])

            async def dead_or_over() -> bool:
                return not stack.runs(service.name) or await over()

            await eventually(dead_or_over, limit=60)
    finally:
        await asyncio.to_thread(stack.stop, service.name)
    return starts


async def with_delivery_limit(vhost: Vhost, limit: int) -> None:
    """Makes the queue anew with that limit: each delivery costs the start of a process."""
    (queue,) = (it for it in topology().queues if it.name == QUEUE)
    (binding,) = (it for it in topology().bindings if it.queue == QUEUE)
    await vhost.management.call("DELETE", f"/queues/{{vhost}}/{QUEUE}")
    arguments = queue.arguments | {"x-delivery-limit": limit}
    await vhost.management.call("PUT", f"/queues/{{vhost}}/{QUEUE}", {"durable": True, "arguments": arguments})
    path = f"/bindings/{{vhost}}/e/{binding.exchange}/q/{QUEUE}"
    await vhost.management.call("POST", path, {"routing_key": binding.routing_key})
