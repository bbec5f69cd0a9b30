"""Measures CPU time and memory of processes, from /proc, and the age of transactions, from PostgreSQL."""

import asyncio
import contextlib
import os
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import asyncpg

TICK = os.sysconf("SC_CLK_TCK")
EVERY = 0.05  # seconds between checks of the transactions
LONGEST = """
    SELECT max(extract(epoch FROM clock_timestamp() - xact_start))::float8 FROM pg_stat_activity
    WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
"""


def _fields(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third on; none if the process has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def trees(roots: Mapping[str, int]) -> dict[str, set[int]]:
    """The living processes of each name: the given process and all its descendants."""
    children: dict[int, list[int]] = defaultdict(list)
    for entry in os.listdir("/proc"):
        if entry.isdecimal() and (fields := _fields(int(entry))):
            children[int(fields[1])].append(int(entry))

    def descend(pid: int) -> set[int]:
        return {pid}.union(*(descend(child) for child in children[pid]))

    return {name: descend(pid) for name, pid in roots.items()}


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and of its children that have ended."""
    return sum(map(int, _fields(pid)[11:15])) / TICK


def memory_mb(pid: int, key: str = "VmHWM", file: str = "status") -> float:
    """A figure of a process's memory in MB; by default the peak of its resident memory, as the kernel records it."""
    for line in Path(f"/proc/{pid}/{file}").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) / 1024
    msg = f"/proc/{pid}/{file} has no {key}"
    raise KeyError(msg)


def pss_mb(pid: int) -> float:
    """A process's proportional set size in MB, in which shared pages count in part."""
    return memory_mb(pid, "Pss", "smaps_rollup")


class Cpu:
    """Measures the CPU seconds of named process trees, and of all other processes, from its construction on."""

    def __init__(self, roots: Mapping[str, int]) -> None:
        self._roots = dict(roots)
        self._first = self._read()

    def spent(self) -> dict[str, float]:
        """The CPU seconds since then. `benchmark` is this process, `others` are all unrelated processes."""
        last = self._read()
        spent = {name: round(last[name] - self._first[name], 3) for name in last}
        busy = spent.pop("busy")
        return {**spent, "others": round(max(0.0, busy - sum(spent.values())), 3)}

    def _read(self) -> dict[str, float]:
        found = {name: sum(map(cpu_seconds, pids)) for name, pids in trees(self._roots).items()}
        user, nice, system, _idle, _wait, irq, soft, *_ = map(int, Path("/proc/stat").read_text().split()[1:9])
        return {**found, "benchmark": sum(os.times()[:2]), "busy": (user + nice + system + irq + soft) / TICK}


@dataclass
class TransactionWatch:
    """Watches the age of transactions while a case runs."""

    longest: float = 0.0
    """Seconds of the longest transaction of other clients."""
    looks: int = 0

    @classmethod
    @contextlib.asynccontextmanager
    async def over(cls, database_url: str) -> AsyncIterator[Self]:
        """Checks every EVERY seconds until the block has ended."""
        watch = cls()
        connection = await asyncpg.connect(database_url, server_settings={"application_name": "benchmark watch"})
        task = asyncio.create_task(watch._look(connection))
        try:
            yield watch
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            await connection.close()

    async def _look(self, connection: asyncpg.Connection) -> None:
        query = await connection.prepare(LONGEST)
        while True:
            began = time.monotonic()
            self.longest = max(self.longest, await query.fetchval() or 0.0)
            self.looks += 1
            await asyncio.sleep(max(0.0, EVERY - (time.monotonic() - began)))
