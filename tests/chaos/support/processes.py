"""Taskbell's services as processes: several of each service, each started, killed and paused by itself."""

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
from taskbell_devstack.services import ServiceProgram
from taskbell_devstack.stack import Stack
from tests.support.servers import Run
from tests.support.waiting import eventually

ENDS = 120.0  # seconds for a process to end by itself


class ServiceProcess:
    """One process of one service. The run has it on record and ends it, even if the test fails."""

    def __init__(self, service: str, number: int, environment: Mapping[str, str], module: str | None = None) -> None:
        self.service = service
        self.name = f"{service}-{number}"
        self.kills = 0
        self.ready = False
        """Whether it was ready when last started, and was not told to end since."""
        self._directory = Run.current().folder / f"process-{uuid.uuid4().hex[:8]}"
        self._stack = Stack(self._directory, servers=())
        self._what = ServiceProgram(
            self.name,
            module or f"taskbell_{service}",
            dict(environment),
            public=service == "notifier",
            start_limit=180.0,
        )

    @property
    def log(self) -> Path:
        """Its log, over all its starts."""
        return self._directory / "log" / f"{self.name}.log"

    async def start(self) -> None:
        """Starts it; returns when it is ready."""
        self._directory.mkdir(parents=True, exist_ok=True)
        await asyncio.to_thread(self._stack.run_services, [self._what])
        self.ready = True

    async def kill(self) -> float:
        """Ends it as a power cut does (SIGKILL); returns the Unix time of that."""
        self.ready = False
        self.kills += 1
        at = time.time()
        await asyncio.to_thread(self._stack.kill, self.name)
        return at

    async def stop(self) -> float:
        """Ends it as a supervisor does (SIGTERM); returns the seconds that this took."""
        self.ready = False
        began = time.monotonic()
        await asyncio.to_thread(self._stack.stop, self.name)
        return time.monotonic() - began

    async def end(self) -> None:
        """Kills it (SIGKILL) if it still runs."""
        if self.name in self._stack.state.processes:
            await self.kill()

    def terminate(self) -> None:
        """Tells it to end, as a supervisor does (SIGTERM)."""
        self.ready = False
        send(self._stack.state.processes[self.name], signal.SIGTERM)

    async def ended(self) -> int:
        """Waits until its process has ended, by itself or after `terminate`; returns its exit status."""
        self.ready = False
        return await exit_status(self.pid)

    def pause(self) -> None:
        """Stops it without ending it (SIGSTOP)."""
        self._stack.pause(self.name)

    def resume(self) -> None:
        """Continues it (SIGCONT)."""
        self._stack.resume(self.name)

    @property
    def pid(self) -> int:
        """The id of the process on record."""
        return self._stack.state.processes[self.name].pid

    @property
    def url(self) -> str:
        """Where its HTTP server is."""
        return self._stack.state.services[self.name].url

    def runs(self) -> bool:
        """Whether its process is alive."""
        return self._stack.runs(self.name)

    async def status(self, path: str = "/readyz") -> int:
        """The status with which its HTTP server answers."""
        return (await self._get(path)).status_code

    async def is_ready(self) -> bool:
        """Whether it reports that it is ready."""
        return await self.status() == 200

    async def is_red(self, *because: str) -> bool:
        """Whether it reports that it is not ready, and names all of `because`; False while nobody answers."""
        try:
            answer = await self._get("/readyz")
        except (httpx.TransportError, KeyError):
            return False  # its HTTP server is not up yet
        return answer.status_code == 503 and all(word in answer.text for word in because)

    async def metric(self, name: str) -> float:
        """The sum of a metric over its labels; 0 if it was not counted yet."""
        text = (await self._get("/metrics")).text
        found = re.findall(rf"^{re.escape(name)}(?:\{{[^}}]*\}})? (\S+)$", text, re.MULTILINE)
        return sum(map(float, found))

    def said(self) -> str:
        """The end of its log."""
        return tail(self.log)

    async def _get(self, path: str) -> httpx.Response:
        async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
            return await client.get(self.url + path)


async def exit_status(pid: int) -> int:
    """Waits until that child process has ended; its exit status, or minus the number of the signal that killed it."""
    # WNOWAIT: the stack that keeps the record collects the child.
    look = os.WEXITED | os.WNOHANG | os.WNOWAIT
    ended = await eventually(lambda: os.waitid(os.P_PID, pid, look), limit=ENDS, what=f"the end of process {pid}")
    return int(ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status)


class Processes:
    """All processes of a test; they are ended when the block is left."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self.all: list[ServiceProcess] = []

    def add(self, service: str, number: int = 1, *, module: str | None = None, **settings: str) -> list[ServiceProcess]:
        """Adds that many processes of a service, not started yet; `module` is run instead of the service's own."""
        first = 1 + sum(it.service == service for it in self.all)
        environment = {**self._environment, **settings}
        added = [ServiceProcess(service, first + n, environment, module) for n in range(number)]
        self.all += added
        return added

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Kills all that still run, stopped ones too, so that a failed test leaves nothing to the next one."""
        await asyncio.gather(*(process.end() for process in self.all))

    async def start(self) -> None:
        """Starts all, and waits until each is ready."""
        await asyncio.gather(*(process.start() for process in self.all))

    async def stop(self) -> None:
        """Ends all as a supervisor does (SIGTERM)."""
        await asyncio.gather(*(process.stop() for process in self.all))

    def of(self, service: str) -> list[ServiceProcess]:
        """The processes of one service."""
        return [it for it in self.all if it.service == service]

    def check_running(self, processes: Iterable[ServiceProcess] | None = None) -> None:
        """Fails, with the end of its log, if one has ended by itself."""
        for process in self.all if processes is None else processes:
            assert process.runs(), f"{process.name} has ended:\n{process.said()}"
