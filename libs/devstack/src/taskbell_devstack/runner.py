"""Starting and stopping servers, with every process on record."""

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
    """What is asked of each kind of server. Limits are seconds."""

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
        """Ends it in good order."""

    @property
    def quit_signal(self) -> signal.Signals:
        """Ends it without tidying up its data, which nobody will need."""

    def prepare(self) -> None:
        """Make what it needs on disk; called while it does not run."""

    def launch(self) -> Launch: ...

    def accepts(self) -> bool:
        """Whether clients are served. Never raises, never waits long."""

    def settle(self) -> None:
        """What has to be done each time it has been started, once it accepts clients."""


class Ending(NamedTuple):
    """How to end a process: ask with this signal, kill after that many seconds."""

    name: str
    signal: signal.Signals
    limit: float


class Runner:
    """Keeps the state file true to what runs."""

    def __init__(self, file: StateFile) -> None:
        self._file = file
        self._launcher = Launcher()

    def record(self, name: str) -> ProcessRecord | None:
        """The process on record under that name, whether it still runs or not."""
        return self._file.read().processes.get(name)

    def runs(self, name: str) -> bool:
        """Whether the process on record under that name is alive."""
        return is_running(self.record(name))

    def start_together(self, chains: Iterable[Sequence[Server]]) -> None:
        """Start each chain in a thread of its own, the servers of a chain one after the other.

        A server that runs and accepts clients is left alone; one that runs and does not within its limit is ended and
        started again. The first failure is raised; the others are then no longer waited for, and stay on record.
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

    def stop_together(self, endings: Sequence[Ending]) -> None:
        """Stop what is on record under these names, all at the same time; return when all of it is gone."""
        with ThreadPoolExecutor() as threads:
            for job in [threads.submit(self.stop, ending) for ending in endings]:
                job.result()

    def stop(self, ending: Ending) -> None:
        """Stop what is on record under this name, if anything is, and take it off the record."""
        record = self.record(ending.name)
        if record is not None:
            self._launcher.stop(record, number=ending.signal, limit=ending.limit)
            with self._file.change() as state:
                state.processes.pop(ending.name, None)

    def _start(self, server: Server, given_up: threading.Event) -> None:
        record = self.record(server.name)
        if record is not None and is_running(record):
            if self._becomes_ready(server, record, given_up) or given_up.is_set():
                return
            self.stop(Ending(server.name, server.stop_signal, server.stop_limit))
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
        # In this order: a port may be answered by somebody else after ours has ended.
        return server.accepts() and self._launcher.is_running(record)

    def _remember(self, name: str, record: ProcessRecord) -> None:
        with self._file.change() as state:
            state.processes[name] = record
