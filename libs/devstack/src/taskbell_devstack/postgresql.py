"""A private PostgreSQL: real durability, little memory, only on the loopback address, without a socket file."""

import contextlib
import hashlib
import os
import shutil
import signal
import socket
import struct
import subprocess
from pathlib import Path

from taskbell_devstack.errors import DevstackError
from taskbell_devstack.ports import LOOPBACK
from taskbell_devstack.processes import Account, Launch, Launcher, as_account, record_of
from taskbell_devstack.programs import PostgresqlPrograms, find_postgresql
from taskbell_devstack.state import PostgresqlSettings

OUTSIDE = Path("/var/lib/taskbell-dev")
USER = DATABASE = "taskbell"
OPTIONS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",  # a deep checkout would make the socket's name too long
    "max_connections": "200",
    "shared_buffers": "64MB",
    "max_wal_size": "512MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}


def server_account() -> Account | None:
    """The user that PostgreSQL runs as; None: our own. If we are root, it is `postgres`: PostgreSQL refuses root."""
    if os.geteuid() != 0:
        return None
    account = Account.named("postgres")
    if account is None:
        raise DevstackError("PostgreSQL refuses to run as root, and the user `postgres` does not exist: create it")
    return account


def data_folder(directory: Path) -> Path:
    """The data folder of the stack in `directory`.

    It is inside `directory`, unless PostgreSQL's user cannot enter that (a checkout below /root). Then it is below
    /var/lib, under a name made from the stack's path.
    """
    account = server_account()
    inside = directory / "postgresql"
    if account is None or _can_reach(account, directory):
        return inside / "data"
    name = hashlib.sha256(os.fsencode(directory.resolve())).hexdigest()[:12]
    OUTSIDE.mkdir(exist_ok=True)
    OUTSIDE.chmod(0o755)  # so that others can enter it, even if our umask is strict
    return OUTSIDE / name / "data"


def delete_data(settings: PostgresqlSettings) -> None:
    """Delete the data and the folders that were made for them."""
    shutil.rmtree(settings.data.parent, ignore_errors=True)
    with contextlib.suppress(OSError):  # it does not exist, or holds the data of other stacks
        OUTSIDE.rmdir()


class Postgresql:
    """One server with one superuser and one database, both called taskbell."""

    name = "postgresql"
    start_limit = 60.0
    stop_limit = 30.0
    stop_signal = signal.SIGINT  # fast shutdown: ends the clients' sessions, then writes a checkpoint
    quit_signal = signal.SIGQUIT  # immediate shutdown: no checkpoint, but removes its processes and shared memory

    def __init__(self, settings: PostgresqlSettings, directory: Path) -> None:
        self.settings = settings
        self.log = directory / "log" / "postgresql.log"
        self.account = server_account()

    def prepare(self) -> None:
        """Make the data folder with its user and database, completely or not at all.

        Raises DevstackError if that fails.
        """
        data = self.settings.data
        if (data / "PG_VERSION").exists():
            self._clear_lock_file()
            return
        self._own(data.parent)
        fresh = data.with_name("initialising")
        shutil.rmtree(fresh, ignore_errors=True)
        password = data.with_name("password")
        password.write_text(self.settings.password)
        self._own(password)
        folder = self._programs().folder
        self._run(
            folder / "initdb",
            *(f"--pgdata={fresh}", f"--username={USER}", f"--pwfile={password}", "--auth=scram-sha-256"),
            *("--encoding=UTF8", "--no-locale", "--no-sync"),
        )
        password.unlink()
        self._run(
            *(folder / "postgres", "--single", "-D", fresh, "postgres"),
            words=f"CREATE DATABASE {DATABASE}\n",
        )
        fresh.rename(data)

    def launch(self) -> Launch:
        options = OPTIONS | {"port": str(self.settings.port)}
        return Launch(
            name=self.name,
            argv=[
                *(self._programs().folder / "postgres", "-D", self.settings.data),
                *(part for name, value in options.items() for part in ("-c", f"{name}={value}")),
            ],
            environment=ENVIRONMENT,
            directory=self.settings.data,
            log=self.log,
            account=self.account,
        )

    def accepts(self) -> bool:
        return lets_in(LOOPBACK, self.settings.port)

    def settle(self) -> None:
        """Nothing to do once it accepts connections."""

    def _programs(self) -> PostgresqlPrograms:
        """The installed programs; if there are data, those of the data's version."""
        try:
            major = int((self.settings.data / "PG_VERSION").read_text())
        except FileNotFoundError:
            major = None
        programs = find_postgresql(major)
        if programs is None:
            raise DevstackError(
                f"The data in {self.settings.data} were made by PostgreSQL {major}, which is not installed "
                "(any more): install it, or delete the data with `taskbell dev down --remove-data`"
                if major
                else "PostgreSQL was not found: install it"
            )
        return programs

    def _own(self, path: Path) -> None:
        """Make the folder if it does not exist, and let only the server's user into it."""
        if not path.exists():
            path.mkdir()
        path.chmod(0o700 if path.is_dir() else 0o600)
        if self.account is not None:
            os.chown(path, self.account.uid, self.account.gid)

    def _run(self, *argv: str | Path, words: str = "") -> None:
        done = subprocess.run(
            list(argv),
            input=words,
            capture_output=True,
            text=True,
            check=False,
            cwd=self.settings.data.parent,
            env=ENVIRONMENT,
            **as_account(self.account),
        )
        if done.returncode:
            raise DevstackError(f"{Path(argv[0]).name} failed: {done.stderr.strip() or done.stdout.strip()}")

    def _clear_lock_file(self) -> None:
        """Remove the lock file of a server that no longer runs; stop a server that still does.

        PostgreSQL only checks whether *some* process has the number in the file, and refuses to start if an unrelated
        process has got it. A process that works in our data folder is our server, even if our record of it is lost.
        """
        lock = self.settings.data / "postmaster.pid"
        try:
            pid = int(lock.read_text().split("\n")[0])
        except (FileNotFoundError, ValueError):
            return
        owner = record_of(pid)
        try:
            ours = owner is not None and Path(f"/proc/{pid}/cwd").resolve() == self.settings.data.resolve()
        except OSError:
            ours = False
        if ours and owner is not None:
            Launcher().stop(owner, number=self.stop_signal, limit=self.stop_limit)
        lock.unlink(missing_ok=True)


def lets_in(host: str, port: int) -> bool:
    """Whether the server would accept a client: it asks for a password, and is not still starting."""
    words = b"".join(part.encode() + b"\0" for part in ("user", USER, "database", DATABASE, ""))
    try:
        with socket.create_connection((host, port), timeout=1) as client:
            client.sendall(struct.pack("!ii", 8 + len(words), 3 << 16) + words)
            return client.recv(1) == b"R"
    except OSError:
        return False


def _can_reach(account: Account, directory: Path) -> bool:
    """Whether the user may enter this existing folder."""
    tried = subprocess.run(
        ["/bin/sh", "-c", 'cd "$0"', directory.resolve()],
        capture_output=True,
        check=False,
        cwd="/",
        **as_account(account),
    )
    return tried.returncode == 0
