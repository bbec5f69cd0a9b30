"""A PostgreSQL and a RabbitMQ for one test module, which its tests may stop, kill and starve of memory.

They are containers or local processes, as the run's other servers are (tests/support/servers.py). The run has them on
record, or labels them, and ends them when it ends.
"""

import asyncio
import os
import subprocess
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager
from typing import TYPE_CHECKING, ClassVar, Literal

from taskbell.setup.broker import declare
from taskbell_devstack.errors import DevstackError
from taskbell_devstack.ports import pick_free
from taskbell_devstack.postgresql import lets_in
from taskbell_devstack.programs import find_rabbitmq
from taskbell_devstack.rabbitmq import greets
from taskbell_devstack.stack import Stack
from tests.support import containers
from tests.support.management import Management
from tests.support.servers import OWNER_VARIABLE, Run, choose
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from docker.models.containers import Container

Server = Literal["postgresql", "rabbitmq"]

RETURNS = 90.0  # seconds for a server to accept clients again
HOST = "127.0.0.1"


class OwnServers(ABC):
    """The two servers; the users in the URLs are administrators."""

    database_url: str
    broker_url: str
    management: Management

    @property
    @abstractmethod
    def ports(self) -> dict[Server, int]:
        """The ports on which they listen, the same at every start."""

    @abstractmethod
    def up(self) -> None:
        """Starts both for the first time."""

    @abstractmethod
    def kill(self, server: Server) -> None:
        """Ends it as a power cut does (SIGKILL)."""

    @abstractmethod
    def stop(self, server: Server) -> None:
        """Shuts it down in good order."""

    @abstractmethod
    def launch(self, server: Server) -> None:
        """Starts it again with its data."""

    @abstractmethod
    def control(self, *words: str) -> str:
        """Runs rabbitmqctl with these arguments; returns what it prints."""

    @abstractmethod
    def end(self) -> None:
        """Ends both, and removes their data."""

    async def begin(self) -> None:
        """Starts both, with our topology safely on the broker's disk.

        RabbitMQ 3.10 writes the names of new quorum queues to disk when it is stopped, and may lose them if it is
        killed before that.
        """
        await asyncio.to_thread(self.up)
        await self.returned("rabbitmq")
        await declare(self.broker_url)
        await asyncio.to_thread(self.stop, "rabbitmq")
        await self.start("rabbitmq")

    async def start(self, server: Server) -> float:
        """Starts it again; returns the monotonic time at which it accepted clients."""
        launching = asyncio.create_task(asyncio.to_thread(self.launch, server))
        at = await self.returned(server)
        # `launch` waits for more than that, such as the management API.
        await launching
        return at

    async def returned(self, server: Server) -> float:
        """Waits until it accepts clients; returns the monotonic time of that."""
        accepts = greets if server == "rabbitmq" else lets_in
        port = self.ports[server]
        await eventually(lambda: asyncio.to_thread(accepts, HOST, port), limit=RETURNS, what=f"the return of {server}")
        return time.monotonic()

    async def run_short_of_memory(self, short: bool) -> None:
        """Raises the broker's memory alarm, or ends it."""
        await asyncio.to_thread(self.control, "set_vm_memory_high_watermark", "0" if short else "0.6")

    async def trace(self, on: bool) -> None:
        """Turns on or off that the broker publishes every delivery to its exchange `amq.rabbitmq.trace`."""
        await asyncio.to_thread(self.control, "trace_on" if on else "trace_off")


class LocalServers(OwnServers):
    """The servers as processes of this machine."""

    def __init__(self) -> None:
        self._stack = Stack(Run.current().folder / f"own-{uuid.uuid4().hex[:8]}", servers=("postgresql", "rabbitmq"))

    @property
    def ports(self) -> dict[Server, int]:
        state = self._stack.state
        assert state.postgresql is not None
        assert state.rabbitmq is not None
        return {"postgresql": state.postgresql.port, "rabbitmq": state.rabbitmq.port}

    def up(self) -> None:
        # If the tests run as root, PostgreSQL runs as another user, whose data is in that folder.
        Run.current().folder.mkdir(mode=0o755, exist_ok=True)
        state = self._stack.up()
        assert state.postgresql is not None
        assert state.rabbitmq is not None
        self.database_url = state.postgresql.url
        self.broker_url = state.rabbitmq.url
        self.management = Management(state.rabbitmq.management_url, state.rabbitmq.url, "/")

    def kill(self, server: Server) -> None:
        self._stack.kill(server)

    def stop(self, server: Server) -> None:
        self._stack.stop(server)

    def launch(self, server: Server) -> None:
        self._stack.start(server)

    def control(self, *words: str) -> str:
        programs, settings = find_rabbitmq(), self._stack.state.rabbitmq
        assert programs is not None
        assert settings is not None
        environment = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": str(settings.home),
            "LANG": "C.UTF-8",
            "ERL_EPMD_PORT": str(settings.epmd_port),
            "RABBITMQ_NODENAME": "taskbell@localhost",
            "RABBITMQ_CONF_ENV_FILE": str(settings.home / "empty"),
        }
        argv = [programs.server.with_name("rabbitmqctl"), *words]
        done = subprocess.run(argv, env=environment, check=False, timeout=60, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def end(self) -> None:
        self._stack.down(at_once=True, remove_data=True)


class ContainerServers(OwnServers):
    """The servers in containers, whose ports stay the same when they are started again."""

    IMAGES: ClassVar[dict[Server, str]] = {"postgresql": containers.POSTGRESQL, "rabbitmq": containers.RABBITMQ}
    STOPS = 40  # seconds

    def __init__(self) -> None:
        self._run = Run.current().folder.name
        self._pair = f"own-{uuid.uuid4().hex[:8]}"
        taken: list[int] = []
        for _ in range(3):
            taken.append(pick_free(besides=taken))
        self._ports = containers.Ports(*taken)

    @property
    def ports(self) -> dict[Server, int]:
        assert self._ports.postgresql is not None
        assert self._ports.rabbitmq is not None
        return {"postgresql": self._ports.postgresql, "rabbitmq": self._ports.rabbitmq}

    def up(self) -> None:
        owner = os.environ[OWNER_VARIABLE]
        urls = containers.start(self._run, owner=owner, pair=self._pair, ports=self._ports)
        self.database_url, self.broker_url, management_url = urls
        self.management = Management(management_url, self.broker_url, "/")

    def kill(self, server: Server) -> None:
        with self._container(server) as it:
            it.kill("KILL")

    def stop(self, server: Server) -> None:
        with self._container(server) as it:
            it.stop(timeout=self.STOPS)

    def launch(self, server: Server) -> None:
        with self._container(server) as it:
            it.start()

    def control(self, *words: str) -> str:
        with self._container("rabbitmq") as it:
            code, said = it.exec_run(["rabbitmqctl", *words])
        assert code == 0, said.decode(errors="replace")
        return str(said.decode())

    def end(self) -> None:
        for server in self.IMAGES:
            with self._container(server) as it:
                it.remove(force=True, v=True)

    def _container(self, server: Server) -> "AbstractContextManager[Container]":
        return containers.container(self._run, self._pair, self.IMAGES[server])


@asynccontextmanager
async def start_own_servers() -> AsyncIterator[OwnServers]:
    """Starts both servers, with our topology; removes them at the end.

    Raises:
        DevstackError: the run uses servers that were given to it; tests cannot kill those.
    """
    choice = choose(os.environ)
    if choice.kind == "given":
        msg = "tests/chaos kills servers, and starts them itself: unset TEST_DATABASE_URL and TEST_BROKER_URL"
        raise DevstackError(msg)
    own_servers: OwnServers = ContainerServers() if choice.kind == "containers" else LocalServers()
    try:
        await own_servers.begin()
        yield own_servers
    finally:
        await own_servers.management.close()
        await asyncio.to_thread(own_servers.end)
