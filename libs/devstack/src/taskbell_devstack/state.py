"""Which processes a stack has started, and with which settings, in one file that is always complete.

The file is written before each process begins. So even if the command that starts processes is killed, the next command
knows all of them. The file holds passwords, and only its owner can read it.
"""

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar, Self

from pydantic import BaseModel, ConfigDict

from taskbell_devstack.ports import is_free
from taskbell_devstack.processes import ProcessRecord


class ServerSettings(BaseModel):
    """A server's settings. They stay the same when it is started again, except for ports that others have taken."""

    model_config = ConfigDict(frozen=True)
    PORTS: ClassVar[tuple[str, ...]]

    def ports(self) -> dict[str, int]:
        """The ports, by the names of their fields."""
        return {name: getattr(self, name) for name in self.PORTS}

    def moved(self, pick: Callable[[], int]) -> Self:
        """The same settings, but with a new port from `pick` for each port that is not free."""
        return self.model_copy(update={name: pick() for name, port in self.ports().items() if not is_free(port)})


class PostgresqlSettings(ServerSettings):
    PORTS = ("port",)

    port: int
    password: str
    data: Path

    @property
    def url(self) -> str:
        """As the administrator."""
        return self.url_of("taskbell", self.password)

    def url_of(self, user: str, password: str) -> str:
        return f"postgresql://{user}:{password}@127.0.0.1:{self.port}/taskbell"


class RabbitmqSettings(ServerSettings):
    PORTS = ("port", "management_port", "distribution_port", "epmd_port")

    port: int
    management_port: int
    distribution_port: int
    epmd_port: int
    password: str
    home: Path

    @property
    def url(self) -> str:
        """As the administrator."""
        return self.url_of("taskbell", self.password)

    def url_of(self, user: str, password: str) -> str:
        return f"amqp://{user}:{password}@127.0.0.1:{self.port}/"

    @property
    def management_url(self) -> str:
        return f"http://taskbell:{self.password}@127.0.0.1:{self.management_port}"


class InboxSettings(ServerSettings):
    PORTS = ("smtp_port", "imap_port", "http_port")

    smtp_port: int
    imap_port: int
    http_port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}/"


class ServiceSettings(ServerSettings):
    PORTS = ("http_port",)

    http_port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"


class StackState(BaseModel):
    """The processes and settings of a stack, whether it runs or not."""

    processes: dict[str, ProcessRecord] = {}
    postgresql: PostgresqlSettings | None = None
    rabbitmq: RabbitmqSettings | None = None
    inbox: InboxSettings | None = None
    services: dict[str, ServiceSettings] = {}

    def taken_ports(self) -> set[int]:
        """The ports of all servers and services of this stack."""
        parts = [self.postgresql, self.rabbitmq, self.inbox, *self.services.values()]
        return {port for part in parts if part is not None for port in part.ports().values()}


class StateFile:
    """The state file: any number may read it, and one process at a time may write it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = directory / "state.json"

    def read(self) -> StackState:
        """The state as last written; an empty state if nothing was ever started."""
        try:
            return StackState.model_validate_json(self.path.read_bytes())
        except FileNotFoundError:
            return StackState()

    @contextlib.contextmanager
    def change(self) -> Iterator[StackState]:
        """Change the state, while other processes wait. When the block has ended, the new state is on disk."""
        with self._locked("state.lock"):
            state = self.read()
            yield state
            fresh = self.path.with_suffix(".new")
            with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                file.write(state.model_dump_json(indent=2))
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self.path)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Make other commands that start or stop servers wait until the block has ended."""
        with self._locked("lock"):
            yield

    @contextlib.contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / name).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
