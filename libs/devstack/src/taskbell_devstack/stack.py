"""A stack: private servers that keep their files in one folder. It starts them together, and stops exactly these."""

import secrets
import shutil
import signal
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from taskbell_devstack import packages
from taskbell_devstack.errors import NotReady
from taskbell_devstack.inbox import Inbox
from taskbell_devstack.ports import is_free, pick_free
from taskbell_devstack.postgresql import Postgresql, data_folder, delete_data
from taskbell_devstack.processes import send
from taskbell_devstack.rabbitmq import PortMapper, Rabbitmq
from taskbell_devstack.runner import Runner, Server, StopRequest
from taskbell_devstack.services import STOP_LIMIT, RunningService, ServiceProgram
from taskbell_devstack.state import (
    InboxSettings,
    PostgresqlSettings,
    RabbitmqSettings,
    ServiceSettings,
    StackState,
    StateFile,
)


def be_quiet(sentence: str) -> None:
    """Does nothing, for callers that want no progress reports."""


class Stack:
    """The servers of one folder. Every method may be called again, also after servers or we ourselves crashed."""

    SERVERS = ("postgresql", "rabbitmq", "inbox")

    def __init__(
        self, directory: Path, *, servers: Collection[str] = SERVERS, say: Callable[[str], None] = be_quiet
    ) -> None:
        self.directory = directory.absolute()
        self._wanted = frozenset(servers)
        self._say = say
        self._file = StateFile(self.directory)
        self._runner = Runner(self._file)

    @property
    def state(self) -> StackState:
        """The state as last written, by whatever process."""
        return self._file.read()

    def runs(self, name: str) -> bool:
        """Whether the process with that name (postgresql, rabbitmq, epmd, inbox, or a service's name) is alive."""
        return self._runner.runs(name)

    def up(self) -> StackState:
        """Start the servers that do not run yet, with the data they had; return when all of them accept clients.

        Raises ProgramsMissing if a server is not installed, NotReady if one does not accept clients in time.
        """
        with self._file.held():
            packages.ensure(self._say)
            self._choose_settings()
            chains = self._chains()
            if any(not (self.runs(it.name) and it.accepts()) for chain in chains for it in chain):
                self._say(f"Starting {', '.join(chain[-1].name for chain in chains)}")
                try:
                    self._runner.start_together(chains)
                except NotReady:
                    # Another program may have taken a port between our check and the server's start.
                    ports = self.state.taken_ports()
                    self._choose_settings()
                    if self.state.taken_ports() == ports:
                        raise
                    self._runner.start_together(self._chains())
            return self.state

    def run_services(self, services: Sequence[ServiceProgram]) -> StackState:
        """Start those of the services that do not run yet; return when all are ready.

        Raises NotReady if one does not become ready in time.
        """
        with self._file.held():
            with self._file.change() as state:
                taken = state.taken_ports()
                for service in services:
                    had = state.services.get(service.name)
                    if had is None or not (self.runs(service.name) or is_free(had.http_port)):
                        port = pick_free(besides=taken)
                        taken.add(port)
                        state.services[service.name] = ServiceSettings(http_port=port)
            ports = {name: it.http_port for name, it in self.state.services.items()}
            self._runner.start_together([[RunningService(it, ports[it.name], self.directory)] for it in services])
            return self.state

    def down(self, *, at_once: bool = False, remove_data: bool = False) -> None:
        """Stop every recorded process, services first. `at_once`: without a clean shutdown."""
        if not self.directory.exists():
            return
        with self._file.held():
            state = self.state
            servers = {it.name: it for chain in self._chains() for it in chain}
            services = state.processes.keys() - servers.keys()
            end = signal.SIGKILL if at_once else signal.SIGTERM
            self._runner.stop_together([StopRequest(name, end, STOP_LIMIT) for name in services])
            requests = [
                StopRequest(it.name, it.quit_signal if at_once else it.stop_signal, it.stop_limit)
                for it in servers.values()
            ]
            # The port mapper stops last, because the broker unregisters from it.
            self._runner.stop_together([it for it in requests if it.name != PortMapper.name])
            self._runner.stop_together([it for it in requests if it.name == PortMapper.name])
            if remove_data:
                self._remove_data(state)

    def start(self, name: str) -> None:
        """Start one server again after `stop` or `kill`, with its ports and its data."""
        self._runner.start_together([chain for chain in self._chains() if chain[-1].name == name])

    def stop(self, *names: str) -> None:
        """Stop these servers or services cleanly, at the same time."""
        servers = {it.name: it for chain in self._chains() for it in chain}
        requests = [
            StopRequest(it.name, it.stop_signal, it.stop_limit) if it else StopRequest(name, signal.SIGTERM, STOP_LIMIT)
            for name, it in ((name, servers.get(name)) for name in names)
        ]
        self._runner.stop_together(requests)

    def kill(self, name: str) -> None:
        """End one process without warning, as a power cut would (SIGKILL)."""
        self._runner.stop(StopRequest(name, signal.SIGKILL, 0.0))

    def pause(self, name: str) -> None:
        """Stop one process (SIGSTOP) until `resume`: its connections stay open, but it does not answer."""
        send(self.state.processes[name], signal.SIGSTOP)

    def resume(self, name: str) -> None:
        """Continue a paused process (SIGCONT)."""
        send(self.state.processes[name], signal.SIGCONT)

    def _chains(self) -> list[list[Server]]:
        """The servers that have settings. Servers in one list start one after the other."""
        state = self.state
        chains: list[list[Server]] = []
        if state.postgresql:
            chains.append([Postgresql(state.postgresql, self.directory)])
        if state.rabbitmq:
            chains.append([PortMapper(state.rabbitmq, self.directory), Rabbitmq(state.rabbitmq, self.directory)])
        if state.inbox:
            chains.append([Inbox(state.inbox, self.directory)])
        return chains

    def _choose_settings(self) -> None:
        """Give each wanted server settings: those that it had, with a new port for each port that is taken."""
        if not self.runs(Rabbitmq.name):
            self._runner.stop(StopRequest(PortMapper.name, PortMapper.stop_signal, PortMapper.stop_limit))
        with self._file.change() as state:
            taken = state.taken_ports()

            def port() -> int:
                taken.add(picked := pick_free(besides=taken))
                return picked

            if state.postgresql and not self.runs(Postgresql.name):
                state.postgresql = state.postgresql.moved(port)
            if state.rabbitmq and not self.runs(Rabbitmq.name):
                state.rabbitmq = state.rabbitmq.moved(port)
            if state.inbox and not self.runs(Inbox.name):
                state.inbox = state.inbox.moved(port)
            if Postgresql.name in self._wanted and state.postgresql is None:
                data = data_folder(self.directory)
                state.postgresql = PostgresqlSettings(port=port(), password=secrets.token_urlsafe(12), data=data)
            if Rabbitmq.name in self._wanted and state.rabbitmq is None:
                state.rabbitmq = RabbitmqSettings(
                    port=port(),
                    management_port=port(),
                    distribution_port=port(),
                    epmd_port=port(),
                    password=secrets.token_urlsafe(12),
                    home=self.directory / "rabbitmq",
                )
            if Inbox.name in self._wanted and state.inbox is None:
                state.inbox = InboxSettings(smtp_port=port(), imap_port=port(), http_port=port())

    def _remove_data(self, state: StackState) -> None:
        if state.postgresql:
            delete_data(state.postgresql)
        shutil.rmtree(self.directory)
