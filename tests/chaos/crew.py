"""Taskbell's services as processes that come and go: several of each, each started, killed and paused by itself."""

import asyncio
import os
import re
import signal
import time
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Self

import httpx

from taskbell_devstack.processes import send, tail
from taskbell_devstack.services import Service
from taskbell_devstack.stack import Stack
from tests.support.servers import Run
from tests.support.waiting import eventually

ENDS = 120.0  # seconds for a process to end by itself


class Member:
    """One process of one service. It is on the run's record, so that it ends with it, whatever becomes of the test."""

    def __init__(self, service: str, number: int, environment: Mapping[str, str], module: str | None = None) -> None:
        self.service = service
        self.name = f"{service}-{number}"
        self.kills = 0
        self.ready = False
        """It runs, as far as we know, and has said that it is ready."""
        self._directory = Run.current().folder / f"crew-{uuid.uuid4().hex[:8]}"
        self._stack = Stack(self._directory, servers=())
        self._what = Service(
            self.name,
            module or f"taskbell_{service}",
            dict(environment),
            public=service == "notifier",
            start_limit=180.0,
        )

    @property
    def log(self) -> Path:
        """What it has said, in all its lives."""
        return self._directory / "log" / f"{self.name}.log"

    async def start(self) -> None:
        """Starts it; returns when it is ready."""
        self._directory.mkdir(parents=True, exist_ok=True)
        await asyncio.to_thread(self._stack.run_services, [self._what])
        self.ready = True

    async def kill(self) -> float:
        """Ends it as a power cut does (SIGKILL); the Unix time of that."""
        self.ready = False
        self.kills += 1
        at = time.time()
        await asyncio.to_thread(self._stack.kill, self.name)
        return at

    async def stop(self) -> float:
        """Ends it as a supervisor does (SIGTERM); the seconds that this took."""
        self.ready = False
        began = time.monotonic()
        await asyncio.to_thread(self._stack.stop, self.name)
        return time.monotonic() - began

    async def end(self) -> None:
        """Ends it whatever it is doing (SIGKILL), if it still runs."""
        if self.name in self._stack.state.processes:
            await self.kill()

    def terminate(self) -> None:
        """Tells it to end, as a supervisor does (SIGTERM)."""
        self.ready = False
        send(self._stack.state.processes[self.name], signal.SIGTERM)

    async def ended(self) -> int:
        """Waits until its process has ended, by itself or told so; its exit status."""
        self.ready = False
        return await exit_status(self.pid)

    def pause(self) -> None:
        """Lets it stand still (SIGSTOP)."""
        self._stack.pause(self.name)

    def resume(self) -> None:
        """Lets it go on (SIGCONT)."""
        self._stack.resume(self.name)

    @property
    def pid(self) -> int:
        """Of the process on record."""
        return self._stack.state.processes[self.name].pid

    def runs(self) -> bool:
        """Is its process alive?"""
        return self._stack.runs(self.name)

    async def status(self, path: str = "/readyz") -> int:
        """What its HTTP server answers."""
        return (await self._get(path)).status_code

    async def is_ready(self) -> bool:
        """Does it say so?"""
        return await self.status() == 200

    async def is_red(self, *because: str) -> bool:
        """Does it say that it is not, and name all of these? No, while nobody answers."""
        try:
            answer = await self._get("/readyz")
        except (httpx.TransportError, KeyError):
            return False  # its HTTP server is not up yet
        return answer.status_code == 503 and all(word in answer.text for word in because)

    async def metric(self, name: str) -> float:
        """The sum of a metric over its labels; nothing that was not counted yet is 0."""
        text = (await self._get("/metrics")).text
        found = re.findall(rf"^{re.escape(name)}(?:\{{[^}}]*\}})? (\S+)$", text, re.MULTILINE)
        return sum(map(float, found))

    def said(self) -> str:
        """The end of what it said."""
        return tail(self.log)

    async def _get(self, path: str) -> httpx.Response:
        url = self._stack.state.services[self.name].url
        async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
            return await client.get(url + path)


async def exit_status(pid: int) -> int:
    """Waits until that child of ours has ended; its exit status, or minus the number of the signal that killed it."""
    look = os.WEXITED | os.WNOHANG | os.WNOWAIT  # whoever keeps the record collects it
    ended = await eventually(lambda: os.waitid(os.P_PID, pid, look), limit=ENDS, what=f"the end of process {pid}")
    return int(ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status)


class Crew:
    """All processes of a test; they end with its block."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self.members: list[Member] = []

    def add(self, service: str, number: int = 1, *, module: str | None = None, **settings: str) -> list[Member]:
        """So many processes of a service, not started yet; `module` is what they run instead of the service's own."""
        first = 1 + sum(it.service == service for it in self.members)
        environment = {**self._environment, **settings}
        added = [Member(service, first + n, environment, module) for n in range(number)]
        self.members += added
        return added

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Ends what runs, also what stands still, so that a test that failed leaves the next one nothing."""
        await asyncio.gather(*(member.end() for member in self.members))

    async def start(self) -> None:
        """Starts all, and waits until each is ready."""
        await asyncio.gather(*(member.start() for member in self.members))

    async def stop(self) -> None:
        """Ends all in good order."""
        await asyncio.gather(*(member.stop() for member in self.members))

    def of(self, service: str) -> list[Member]:
        """The processes of one service."""
        return [it for it in self.members if it.service == service]

    def check_running(self, members: Iterable[Member] | None = None) -> None:
        """Fails, with its last words, where one has ended by itself."""
        for member in self.members if members is None else members:
            assert member.runs(), f"{member.name} has ended:\n{member.said()}"
