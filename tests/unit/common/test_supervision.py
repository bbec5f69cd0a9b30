"""What systemd is told, over a real datagram socket."""

import asyncio
import os
import socket
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from taskbell.health import Health
from taskbell.supervision import Supervision


@asynccontextmanager
async def systemd(health: Health, **environment: str) -> AsyncIterator["Journal"]:
    """A supervision that runs against a socket of ours."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        path = str(Path(folder, "notify"))
        receiver.bind(path)
        receiver.setblocking(False)
        supervision = Supervision.from_environment(health, {"NOTIFY_SOCKET": path, **environment})
        assert supervision is not None
        stop = asyncio.Event()
        running = asyncio.create_task(supervision.run(stop))
        try:
            yield Journal(receiver, stop)
        finally:
            stop.set()
            await running


class Journal:
    """Reads what was told."""

    def __init__(self, receiver: socket.socket, stop: asyncio.Event) -> None:
        self._receiver = receiver
        self.stop = stop

    async def next(self) -> list[str]:
        async with asyncio.timeout(10):
            told = await asyncio.get_running_loop().sock_recv(self._receiver, 4096)
        return told.decode().splitlines()

    async def until(self, line: str) -> list[str]:
        while line not in (told := await self.next()):
            pass
        return told


async def test_nobody_is_told_where_nobody_asked() -> None:
    assert Supervision.from_environment(Health(), {}) is None


async def test_a_process_that_waits_asks_for_patience_and_says_what_for() -> None:
    health = Health()
    health.set("postgresql", "waiting", "no answer")
    async with systemd(health) as journal:
        told = await journal.next()
    assert "READY=1" not in told
    assert "STATUS=waiting postgresql: no answer" in told
    assert "EXTEND_TIMEOUT_USEC=30000000" in told


async def test_readiness_is_told_once_and_stopping_at_the_end() -> None:
    health = Health()
    health.set("postgresql", "waiting", "no answer")
    async with systemd(health, WATCHDOG_USEC="30000", WATCHDOG_PID=str(os.getpid())) as journal:
        await journal.next()
        health.set("postgresql", "ready")
        assert "WATCHDOG=1" in await journal.until("READY=1")
        later = await journal.next()
        assert "READY=1" not in later
        assert "WATCHDOG=1" in later
        journal.stop.set()
        await journal.until("STOPPING=1")


async def test_a_watchdog_meant_for_another_process_is_not_served_faster() -> None:
    health = Health()
    mine = Supervision.from_environment(health, {"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "300000"})
    other = Supervision.from_environment(
        health, {"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "300000", "WATCHDOG_PID": "1"}
    )
    assert mine is not None
    assert other is not None
    assert mine.pause < other.pause
