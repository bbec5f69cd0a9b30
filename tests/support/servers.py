"""The real PostgreSQL and RabbitMQ that tests run on, and where they come from.

In this order: the servers that TEST_DATABASE_URL and TEST_BROKER_URL name; containers, where a Docker engine answers
and has the images or can pull them; private servers on this machine. TEST_SERVERS=containers or local picks one of the
latter two; TEST_POSTGRES_IMAGE and TEST_RABBITMQ_IMAGE name other images. There is no way to run without servers.

One run of pytest has one folder. Whoever needs the servers first starts them under the folder's lock and writes their
URLs there: with pytest-xdist that is one of the workers. A guard process stops them and removes the folder when pytest
has ended, however it has ended.
"""

import contextlib
import fcntl
import os
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, Self
from urllib.parse import urlsplit

from pydantic import BaseModel

from taskbell_devstack.errors import DevstackError
from taskbell_devstack.stack import Stack
from tests.support import containers

RUN_VARIABLE = "TASKBELL_TEST_RUN"
OWNER_VARIABLE = "TASKBELL_TEST_OWNER"
GUARD = 'read -r _; test -d "$1" || exit 0; exec "$2" -m tests.support.servers "$1"'
STACK = "stack"


class ServerUrls(BaseModel, frozen=True):
    """Where the servers are. Their user may create databases, and virtual hosts."""

    database_url: str
    broker_url: str
    management_url: str
    source: str


class Choice(NamedTuple):
    """What a run will use, in words for its first lines and as one of given, containers, local."""

    sentence: str
    kind: str


def choose(environ: Mapping[str, str]) -> Choice:
    """Decide without starting anything; images that are not here are pulled only when they are needed."""
    given = [name for name in ("TEST_DATABASE_URL", "TEST_BROKER_URL") if environ.get(name)]
    if len(given) == 1:
        raise DevstackError(f"{given[0]} is set: set TEST_DATABASE_URL and TEST_BROKER_URL both, or neither")
    if given:
        return Choice("the ones that TEST_DATABASE_URL and TEST_BROKER_URL name", "given")
    wanted = environ.get("TEST_SERVERS", "")
    if wanted not in ("", "containers", "local"):
        raise DevstackError(f"TEST_SERVERS is {wanted!r}: give containers or local, or leave it out")
    if wanted != "local" and (containers.engine_answers() or wanted):
        missing = containers.missing_images()
        pull = f" (to be pulled: {', '.join(missing)}; else private local servers)" if missing else ""
        return Choice(f"containers of {' and '.join(containers.IMAGES)}{pull}", "containers")
    return Choice("private local ones, started when first needed", "local")


def given_urls(environ: Mapping[str, str]) -> ServerUrls:
    """The servers that the environment names; the management URL follows the broker's where it is not."""
    broker_url = environ["TEST_BROKER_URL"]
    broker = urlsplit(broker_url)
    login = broker.netloc.rpartition("@")[0] or "guest:guest"
    return ServerUrls(
        database_url=environ["TEST_DATABASE_URL"],
        broker_url=broker_url,
        management_url=environ.get("TEST_BROKER_MANAGEMENT_URL") or f"http://{login}@{broker.hostname}:15672",
        source="given",
    )


class Run:
    """One run of pytest: its folder, its servers and the guard that clears them away."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def begin(cls, root: Path) -> tuple[Self, subprocess.Popen[bytes]]:
        """Choose a folder and start its guard; the run ends when the guard's standard input is closed.

        The folder is made when servers are needed. Workers of this process find it through the environment.
        """
        run = cls(Path(tempfile.gettempdir()) / f"taskbell-tests-{uuid.uuid4().hex[:12]}")
        os.environ[RUN_VARIABLE] = str(run.folder)
        os.environ[OWNER_VARIABLE] = containers.this_process()
        guard = subprocess.Popen(
            ["/bin/sh", "-c", GUARD, "guard", run.folder, sys.executable],
            stdin=subprocess.PIPE,
            cwd=root,
            start_new_session=True,  # Ctrl-C is for pytest, which then ends and so lets the guard do its work
        )
        return run, guard

    @classmethod
    def current(cls) -> Self:
        """The run that this process belongs to."""
        return cls(Path(os.environ[RUN_VARIABLE]))

    def servers(self) -> ServerUrls:
        """The run's servers, started if need be; waits while another process starts them."""
        choice = choose(os.environ)
        if choice.kind == "given":
            return given_urls(os.environ)
        # Open to be passed through: as root, PostgreSQL's user has its data in there.
        self.folder.mkdir(mode=0o755, exist_ok=True)
        with self._lock():
            written = self.folder / "urls.json"
            if not written.exists():
                written.write_text(self._start(choice).model_dump_json())
            return ServerUrls.model_validate_json(written.read_bytes())

    def end(self) -> None:
        """Stop what was started and remove the folder."""
        with self._lock():
            containers.remove_of(self.folder.name)
            for folder in self.folder.iterdir():
                if folder.is_dir():
                    Stack(folder).down(at_once=True, remove_data=True)
            for leftover in ("urls.json", "lock"):
                (self.folder / leftover).unlink(missing_ok=True)
            self.folder.rmdir()

    def _start(self, choice: Choice) -> ServerUrls:
        if choice.kind == "containers" and (started := self._start_containers()) is not None:
            return started
        state = Stack(self.folder / STACK, servers=("postgresql", "rabbitmq"), say=print).up()
        assert state.postgresql is not None
        assert state.rabbitmq is not None
        return ServerUrls(
            database_url=state.postgresql.url,
            broker_url=state.rabbitmq.url,
            management_url=state.rabbitmq.management_url,
            source="local",
        )

    def _start_containers(self) -> ServerUrls | None:
        """None, with a word why, where it cannot be done; an error where containers were asked for."""
        try:
            containers.pull_missing()
            urls = containers.start(self.folder.name, owner=os.environ[OWNER_VARIABLE])
        except DevstackError as error:
            containers.remove_of(self.folder.name)
            if os.environ.get("TEST_SERVERS") == "containers":
                raise
            print(f"No containers, private local servers instead: {error}")
            return None
        return ServerUrls(database_url=urls[0], broker_url=urls[1], management_url=urls[2], source="containers")

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


if __name__ == "__main__":
    Run(Path(sys.argv[1])).end()
