"""What a stack has started and with which settings, kept in one file that is always whole.

The file is written before each process begins, so that whatever happens to the command that starts them, the next one
knows all of them. It holds passwords: only its owner can read it.
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


class Settings(BaseModel):
    """A server's settings that stay the same when it is started again, unless somebody else took a port."""

    model_config = ConfigDict(frozen=True)
    PORTS: ClassVar[tuple[str, ...]]

    def ports(self) -> dict[str, int]:
        """The ports by the name of their field."""
        return {name: getattr(self, name) for name in self.PORTS}

    def moved(self, pick: Callable[[], int]) -> Self:
        """The same with another port, from `pick`, for each one that is not free now."""
        return self.model_copy(update={name: pick() for name, port in self.ports().items() if not is_free(port)})


class PostgresqlSettings(Settings):
    PORTS = ("port",)

    port: int
    password: str
    data: Path

    @property
    def url(self) -> str:
        return f"postgresql://taskbell:{self.password}@127.0.0.1:{self.port}/taskbell"


class RabbitmqSettings(Settings):
    PORTS = ("port", "management_port", "distribution_port", "epmd_port")

    port: int
    management_port: int
    distribution_port: int
    epmd_port: int
    password: str
    home: Path

    @property
    def url(self) -> str:
        return f"amqp://taskbell:{self.password}@127.0.0.1:{self.port}/"

    @property
    def management_url(self) -> str:
        return f"http://taskbell:{self.password}@127.0.0.1:{self.management_port}"


class InboxSettings(Settings):
    PORTS = ("smtp_port", "imap_port", "http_port")

    smtp_port: int
    imap_port: int
    http_port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}/"


class ServiceSettings(Settings):
    PORTS = ("http_port",)

    http_port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"


class StackState(BaseModel):
    """Everything there is to know about a stack, whether it runs or not."""

    processes: dict[str, ProcessRecord] = {}
    postgresql: PostgresqlSettings | None = None
    rabbitmq: RabbitmqSettings | None = None
    inbox: InboxSettings | None = None
    services: dict[str, ServiceSettings] = {}

    def taken_ports(self) -> set[int]:
        """Every port that some server of this stack has been given."""
        parts = [self.postgresql, self.rabbitmq, self.inbox, *self.services.values()]
        return {port for part in parts if part is not None for port in part.ports().values()}


class StateFile:
    """The file, its readers and its one writer at a time."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = directory / "state.json"

    def read(self) -> StackState:
        """The state as last written; an empty one where nothing was ever started."""
        try:
            return StackState.model_validate_json(self.path.read_bytes())
        except FileNotFoundError:
            return StackState()

    @contextlib.contextmanager
    def change(self) -> Iterator[StackState]:
        """Change the state, one at a time of all processes; it is on disk, whole, when the block has ended."""
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
        """Keep other commands away while servers are started or stopped; they wait."""
        with self._locked("lock"):
            yield

    @contextlib.contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / name).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
