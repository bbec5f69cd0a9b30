"""Scheduler processes, killed and paused at random; at least one of them runs at any time."""

import asyncio
import random
import signal
import uuid
from typing import Self

from taskbell_devstack.processes import send, tail
from taskbell_devstack.services import ServiceProgram
from taskbell_devstack.stack import Stack
from tests.chaos.support.processes import exit_status
from tests.support.servers import STACK, Run


class SchedulerProcesses:
    """Schedulers on one database and one virtual host. The run has them on record and ends them when it ends."""

    def __init__(self, size: int, environment: dict[str, str], chance: random.Random) -> None:
        suffix = uuid.uuid4().hex[:8]
        self._services = [
            ServiceProgram(f"scheduler-{number}-{suffix}", "taskbell_scheduler", environment) for number in range(size)
        ]
        self._stack = Stack(Run.current().folder / STACK, servers=())
        self._chance = chance
        self._working: set[str] = set()
        self._starting: dict[str, asyncio.Task[None]] = {}
        self._paused: dict[str, int] = {}
        self.kills = 0
        self.stops = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for name in self._paused:
            self._stack.resume(name)
        await asyncio.gather(*self._starting.values(), return_exceptions=True)
        await asyncio.to_thread(self._stack.stop, *(service.name for service in self._services))

    async def start(self) -> None:
        """Starts those that do not run; returns when all are ready."""
        await asyncio.gather(*self._starting.values())
        await asyncio.to_thread(self._stack.run_services, self._services)
        self._working = {service.name for service in self._services}

    async def stop(self) -> None:
        """Ends all in good order (SIGTERM)."""
        for name in list(self._paused):
            self._resume(name)
        await asyncio.gather(*self._starting.values())
        await asyncio.to_thread(self._stack.stop, *(service.name for service in self._services))
        self._working.clear()

    async def end(self) -> list[int]:
        """Tells all that run to end (SIGTERM); returns their exit statuses."""
        for name in self._working:
            self._signal(name, signal.SIGTERM)
        pids = [self._stack.state.processes[name].pid for name in self._working]
        self._working.clear()
        return [await exit_status(pid) for pid in pids]

    def kill_all(self) -> None:
        """Kills all that run (SIGKILL), as a power cut does."""
        for name in self._working:
            self._signal(name, signal.SIGKILL)
        self.kills += len(self._working)
        self._working.clear()

    def attack(self) -> None:
        """Kills or pauses some, never all; those that are killed start again."""
        spare = len(self._working) - 1
        for name in self._chance.sample(sorted(self._working), self._chance.randint(min(spare, 1), spare)):
            self._working.discard(name)
            if self._chance.random() < 0.2:
                self._signal(name, signal.SIGSTOP)
                self._paused[name] = self._chance.randrange(1, 6)
                self.stops += 1
            else:
                self._signal(name, signal.SIGKILL)
                self.kills += 1
                self._starting[name] = asyncio.create_task(self._start(name))

    def end_round(self) -> None:
        """Counts one round for those that are paused; continues those that were paused for all of theirs."""
        for name, rounds in list(self._paused.items()):
            self._paused[name] = rounds - 1
            if rounds <= 1:
                self._resume(name)

    def ends_of_logs(self) -> str:
        """The end of each log."""
        logs = [self._stack.directory / "log" / f"{service.name}.log" for service in self._services]
        return "\n".join(f"{log.name}:\n{tail(log)}" for log in logs)

    async def _start(self, name: str) -> None:
        (service,) = (it for it in self._services if it.name == name)
        await asyncio.to_thread(self._stack.run_services, [service])
        self._working.add(name)
        del self._starting[name]

    def _resume(self, name: str) -> None:
        del self._paused[name]
        self._signal(name, signal.SIGCONT)
        self._working.add(name)

    def _signal(self, name: str, number: signal.Signals) -> None:
        # The record stays: a new start looks itself whether the process is gone.
        send(self._stack.state.processes[name], number)
