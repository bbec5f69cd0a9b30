"""Starts and stops servers, and keeps a record of every process."""

import signal
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple, Protocol

from taskbell_devstack.errors import NotReady
from taskbell_devstack.processes import Launch, Launcher, ProcessRecord, is_running, tail
from taskbell_devstack.state import StateFile
from taskbell_devstack.waiting import wait_until


class Server(Protocol):
    """What each kind of server offers. Limits are in seconds."""

    @property
    def name(self) -> str: ...
    @property
    def log(self) -> Path: ...
    @property
    def start_limit(self) -> float: ...
    @property
    def stop_limit(self) -> float: ...

    @property
    def stop_signal(self) -> signal.Signals:
        """Stops it cleanly."""

    @property
    def quit_signal(self) -> signal.Signals:
        """Stops it at once, for when nobody needs its data any more."""

    def prepare(self) -> None:
        """Make what it needs on disk. Called while it does not run."""

    def launch(self) -> Launch: ...

    def accepts(self) -> bool:
        """Whether it serves clients. Never raises, and never waits long."""

    def settle(self) -> None:
        """Do what is necessary after each start, once it accepts clients."""


class StopRequest(NamedTuple):
    """How to stop a process: send this signal, and kill the process after `limit` seconds."""

    name: str
    signal: signal.Signals
    limit: float


class Runner:
    """Starts and stops processes, and records each in the state file."""

    def __init__(self, file: StateFile) -> None:
        self._file = file
        self._launcher = Launcher()

    def record(self, name: str) -> ProcessRecord | None:
        """The process that is recorded under that name, whether it still runs or not."""
        return self._file.read().processes.get(name)

    def runs(self, name: str) -> bool:
        """Whether the process that is recorded under that name is alive."""
        return is_running(self.record(name))

    def start_together(self, chains: Iterable[Sequence[Server]]) -> None:
        """Start each chain in its own thread, and the servers of a chain one after the other.

        A server that runs and accepts clients is left alone. One that runs but does not accept clients within its limit
        is stopped and started again. The first failure is raised; nobody waits for the others then; they stay recorded.
        """
        given_up = threading.Event()

        def start_chain(chain: Sequence[Server]) -> None:
            for server in chain:
                self._start(server, given_up)

        with ThreadPoolExecutor() as threads:
            jobs = [threads.submit(start_chain, chain) for chain in chains]
            try:
                for job in as_completed(jobs):
                    job.result()
            finally:
                given_up.set()

    def stop_together(self, requests: Sequence[StopRequest]) -> None:
        """Stop the processes with these names at the same time; return when all of them have ended."""
        with ThreadPoolExecutor() as threads:
            for job in [threads.submit(self.stop, request) for request in requests]:
                job.result()

    def stop(self, request: StopRequest) -> None:
        """Stop the process that is recorded under this name, if there is one, and remove its record."""
        record = self.record(request.name)
        if record is not None:
            self._launcher.stop(record, number=request.signal, limit=request.limit)
            with self._file.change() as state:
                state.processes.pop(request.name, None)

    def _start(self, server: Server, given_up: threading.Event) -> None:
        record = self.record(server.name)
        if record is not None and is_running(record):
            if self._becomes_ready(server, record, given_up) or given_up.is_set():
                return
            self.stop(StopRequest(server.name, server.stop_signal, server.stop_limit))
        server.prepare()
        record = self._launcher.start(server.launch(), record=lambda it: self._remember(server.name, it))
        if self._becomes_ready(server, record, given_up):
            server.settle()
        elif not given_up.is_set():
            what = f"did not answer within {server.start_limit:g} s" if is_running(record) else "ended while starting"
            raise NotReady(f"{server.name} {what}. The end of {server.log}:\n{tail(server.log)}")

    def _becomes_ready(self, server: Server, record: ProcessRecord, given_up: threading.Event) -> bool:
        def decided() -> bool:
            return server.accepts() or not self._launcher.is_running(record) or given_up.is_set()

        wait_until(decided, limit=server.start_limit)
        # In this order: after our server has ended, another program may answer on its port.
        return server.accepts() and self._launcher.is_running(record)

    def _remember(self, name: str, record: ProcessRecord) -> None:
        with self._file.change() as state:
            state.processes[name] = record
