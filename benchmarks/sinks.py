"""The mail servers that a case can send to: our own sink, or Postfix's `smtp-sink` if it is installed."""

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taskbell_devstack.ports import LOOPBACK, answers, pick_free
from taskbell_devstack.waiting import wait_until

ROOT = Path(__file__).resolve().parents[1]
STARTS = 20.0  # seconds within which a sink must answer
LOOK = 0.002  # seconds between checks of smtp-sink's counter


@dataclass(frozen=True)
class Taken:
    """What a sink has taken since it was last reset."""

    taken: int
    distinct: int | None
    """The number of different Message-IDs; None: the sink does not count them."""
    first: float | None
    """time.monotonic() when the first mail was taken."""
    last: float | None


class Sink(ABC):
    """The mail server of a case."""

    name: str

    def __init__(self, process: "subprocess.Popen[bytes]", port: int) -> None:
        self._process = process
        self.port = port

    @property
    def pid(self) -> int:
        """The number of its process."""
        return self._process.pid

    @abstractmethod
    async def taken(self) -> Taken:
        """What it has taken."""

    @abstractmethod
    async def reset(self) -> None:
        """Makes it start counting again at 0."""

    async def close(self) -> None:
        """Stops it, and waits for its end."""
        self._process.terminate()
        await asyncio.to_thread(self._process.wait)


class OwnSink(Sink):
    """benchmarks/sink.py, which records each Message-ID that it took."""

    name = "sink"

    def __init__(self, delay: float) -> None:
        port = pick_free()
        self._control = pick_free(besides=[port])
        argv = [sys.executable, "-m", "benchmarks.sink", str(port), str(self._control), "--delay", str(delay)]
        super().__init__(subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.PIPE, start_new_session=True), port)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def taken(self) -> Taken:
        return Taken(**await self._ask("taken"))

    async def reset(self) -> None:
        await self._ask("reset")

    async def close(self) -> None:
        if self._streams:
            self._streams[1].close()
        await super().close()
        assert self._process.stdin is not None
        self._process.stdin.close()

    async def _ask(self, question: str) -> dict[str, Any]:
        if self._streams is None:
            await asyncio.to_thread(wait_until, lambda: answers(self._control), limit=STARTS)
            self._streams = await asyncio.open_connection(LOOPBACK, self._control)
        reader, writer = self._streams
        writer.write(question.encode() + b"\n")
        found: dict[str, Any] = json.loads(await reader.readline())
        return found


class PostfixSink(Sink):
    """`smtp-sink -c`: a C program that counts mails without reading them. It writes its running count to a file."""

    name = "smtp-sink"

    def __init__(self, program: str) -> None:
        port = pick_free()
        self._file = tempfile.NamedTemporaryFile(prefix="sink-", suffix=".count")  # noqa: SIM115 - closed in close()
        user = ["-u", "nobody"] if os.geteuid() == 0 else []
        argv = [program, "-c", *user, f"{LOOPBACK}:{port}", "1000"]
        super().__init__(subprocess.Popen(argv, stdout=self._file, start_new_session=True), port)
        self._before = 0
        self._first: float | None = None
        self._last: float | None = None
        self._seen = 0
        self._watch = asyncio.create_task(self._watching())

    async def taken(self) -> Taken:
        self._look()
        return Taken(self._seen, None, self._first, self._last)

    async def reset(self) -> None:
        self._before += self._seen
        self._seen, self._first, self._last = 0, None, None

    async def close(self) -> None:
        self._watch.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._watch
        await super().close()
        self._file.close()

    async def _watching(self) -> None:
        while True:
            self._look()
            await asyncio.sleep(LOOK)

    def _look(self) -> None:
        count = counted(self._file.fileno()) - self._before
        if count > self._seen:
            self._seen, self._last = count, time.monotonic()
            self._first = self._first or self._last


def counted(file: int) -> int:
    """The last complete count in a file that `smtp-sink -c` writes: its records look like `sess=1 quit=0 mesg=1\\r`."""
    size = os.fstat(file).st_size
    tail = os.pread(file, 200, max(0, size - 200)).decode("ascii", "replace")
    whole = tail.rpartition("\r")[0]
    return int(whole.rpartition("mesg=")[2]) if "mesg=" in whole else 0


def smtp_sink() -> str | None:
    """The path of Postfix's program; None: it is not installed."""
    return shutil.which("smtp-sink") or shutil.which("smtp-sink", path="/usr/sbin:/usr/libexec/postfix")


@contextlib.asynccontextmanager
async def running_sink(*, delay: float = 0.0, own: bool = False) -> AsyncIterator[Sink]:
    """Runs a mail server: smtp-sink if it is installed, unless a delay or `own` requires ours."""
    program = None if delay or own else smtp_sink()
    sink: Sink = PostfixSink(program) if program else OwnSink(delay)
    try:
        if not await asyncio.to_thread(wait_until, lambda: answers(sink.port), limit=STARTS):
            msg = f"{sink.name} does not answer on port {sink.port}"
            raise TimeoutError(msg)
        await sink.reset()
        yield sink
    finally:
        await sink.close()


def stand_in(folder: Path) -> None:
    """Writes a program called smtp-sink to that folder, with the same counter, for peers that know only that one."""
    folder.mkdir(parents=True, exist_ok=True)
    script = folder / "smtp-sink"
    script.write_text(
        "#!/bin/sh\n# smtp-sink -c [-u USER] HOST:PORT BACKLOG\n"
        'for word in "$@"; do case $word in *:*) port=${word##*:} ;; esac; done\n'
        f'cd "{ROOT}" && exec "{sys.executable}" -m benchmarks.sink "$port" --counter\n'
    )
    script.chmod(0o755)
