"""A process that requests status updates, one after the other, and waits for the outcome of each.

In the process of the test itself a request would wait for the test's own work, and that wait would count as the
services'.

    python -m tests.chaos.support.status_requests URL TASK

prints, for each request, when it was sent (seconds of CLOCK_MONOTONIC) and how long its outcome took, until it is
terminated. It exits with status 1 if an outcome is not `done`, or takes longer than a minute.
"""

import asyncio
import json
import sys
import time
import uuid
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Self

import aiormq
from aiormq.abc import DeliveredMessage
from pamqp.commands import Basic

from tests.chaos.support.poison_messages import MESSAGES

LIMIT = 60.0
ROOT = Path(__file__).parents[3]


class StatusRequests:
    """The process of this module, and what it has measured so far."""

    def __init__(self, url: str, task: int) -> None:
        self._arguments = (url, str(task))
        self.answers: list[tuple[float, float]] = []
        """When each request was sent, by `time.monotonic`, and the seconds until its outcome came."""

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", __name__, *self._arguments, stdout=PIPE, cwd=ROOT
        )
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._process.returncode is None:
            self._process.terminate()
        await self._process.wait()
        await self._reading

    def check(self) -> None:
        """Fails if the process has ended: an outcome was wrong, or did not come."""
        assert self._process.returncode is None, "a request got no outcome, or a wrong one: see the output above"

    def between(self, start: float, end: float) -> list[float]:
        """How long the outcomes took of those requests that were sent in that time; seconds."""
        return [took for asked, took in self.answers if start <= asked < end]

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            asked, took = map(float, line.split())
            self.answers.append((asked, took))


async def ask(url: str, task: int) -> None:
    """Requests one status update after the other, without end."""
    answers: asyncio.Queue[DeliveredMessage] = asyncio.Queue()
    connection = await aiormq.connect(url)
    channel = await connection.channel()
    queue = f"reply.{uuid.uuid4().hex}"
    await channel.queue_declare(queue, exclusive=True)
    await channel.basic_consume(queue, answers.put, no_ack=True)  # type: ignore[arg-type]
    message = MESSAGES["maintenance.update_task_status"]
    number = 0
    while True:
        number += 1
        status = b"done" if number % 2 else b"pending"
        asked = time.monotonic()
        await channel.basic_publish(
            b'{"task_id": %d, "new_status": "%b"}' % (task, status),
            exchange=message.exchange,
            routing_key=message.routing_key,
            properties=Basic.Properties(message_id=f"good-{number}", reply_to=queue),
        )
        answer = await asyncio.wait_for(answers.get(), LIMIT)
        took = time.monotonic() - asked
        if json.loads(answer.body)["state"] != "done":
            sys.exit(f"the outcome of a good message: {answer.body!r}")
        print(asked, took, flush=True)


if __name__ == "__main__":
    asyncio.run(ask(sys.argv[1], int(sys.argv[2])))
