"""Finds the programs of RabbitMQ and PostgreSQL, whatever package they came from."""

import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

OLDEST_POSTGRESQL = 13
# Debian's own script cannot be used: it insists on the system's user and on /var/lib/rabbitmq.
RABBITMQ_SCRIPTS = (
    "/usr/lib/rabbitmq/bin/rabbitmq-server",
    "/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server",
)
EPMD = ("/usr/lib/erlang/bin/epmd", "/usr/lib/erlang/erts-*/bin/epmd", "/usr/lib64/erlang/erts-*/bin/epmd")
POSTGRESQL = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin")


@dataclass(frozen=True)
class PostgresqlPrograms:
    """A folder with `initdb` and `postgres` of one major version."""

    folder: Path
    major: int


@dataclass(frozen=True)
class RabbitmqPrograms:
    """The script that becomes the broker, and the port mapper that it needs."""

    server: Path
    epmd: Path


def find_rabbitmq() -> RabbitmqPrograms | None:
    """The installed RabbitMQ; None: there is none. Runs nothing: `rabbitmq-server --version` would start a broker."""
    server = next(_existing(RABBITMQ_SCRIPTS), None) or _on_path("rabbitmq-server")
    epmd = _on_path("epmd") or next(_existing(EPMD), None)
    return RabbitmqPrograms(server, epmd) if server and epmd else None


def find_postgresql(major: int | None = None) -> PostgresqlPrograms | None:
    """The newest installed PostgreSQL that is new enough, or that of the given major version; None: there is none."""
    folders = {folder.resolve() for folder in _existing(POSTGRESQL)}
    if on_path := _on_path("postgres"):
        folders.add(on_path.resolve().parent)
    found = [
        PostgresqlPrograms(folder, version)
        for folder in folders
        if (folder / "initdb").exists() and (version := _major(folder / "postgres")) is not None
    ]
    fitting = [it for it in found if it.major >= OLDEST_POSTGRESQL and major in (None, it.major)]
    return max(fitting, key=lambda it: it.major, default=None)


def _existing(patterns: Iterable[str]) -> Iterator[Path]:
    for pattern in patterns:
        yield from sorted(Path("/").glob(pattern.removeprefix("/")), reverse=True)


def _on_path(program: str) -> Path | None:
    found = shutil.which(program)
    return Path(found) if found else None


def _major(postgres: Path) -> int | None:
    if not postgres.exists():
        return None
    answer = subprocess.run([postgres, "--version"], capture_output=True, text=True, check=False)
    version = re.search(r"\(PostgreSQL\) (\d+)", answer.stdout)
    return int(version[1]) if version else None
