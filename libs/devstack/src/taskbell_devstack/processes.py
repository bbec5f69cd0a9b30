"""Starts and stops processes that outlive the command that starts them.

Two things are guaranteed: every process that runs is recorded, and only recorded processes get signals. For the first,
a process starts as a shell that waits for a word on its standard input. It becomes the server only after its number was
recorded, and ends by itself if the starter dies before that. For the second, a record holds the process's start time
beside its number, because the system uses numbers again.
"""

import contextlib
import os
import pwd
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypedDict

from pydantic import BaseModel, ConfigDict

from taskbell_devstack.waiting import wait_until

WAIT_FOR_WORD = 'read -r go && exec "$@" </dev/null'
WIDTH = 400  # characters of a log's line in a message
KILL_LIMIT = 10.0  # seconds; the kernel may need time to end a killed process that is busy with the disk


class ProcessRecord(BaseModel):
    """Identifies one process, so that no later process with the same number is taken for it."""

    model_config = ConfigDict(frozen=True)

    pid: int
    born: str


@dataclass(frozen=True)
class Account:
    """The operating-system user that a process runs as."""

    name: str
    uid: int
    gid: int

    @classmethod
    def named(cls, name: str) -> Self | None:
        """The user with that name; None: there is none."""
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            return None
        return cls(entry.pw_name, entry.pw_uid, entry.pw_gid)


@dataclass(frozen=True)
class Launch:
    """How to start one process. Its environment is `environment`; it inherits nothing from ours."""

    name: str
    argv: Sequence[str | Path]
    environment: Mapping[str, str]
    directory: Path
    log: Path
    account: Account | None = None


def record_of(pid: int) -> ProcessRecord | None:
    """The record of the process with this number; None: there is none, or only a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return record_by_ps(pid) if not Path("/proc/self/stat").exists() else None
    # The second field is the program's name in brackets, which may itself contain blanks and brackets.
    state, *fields = stat.rpartition(")")[2].split()
    return None if state in "ZX" else ProcessRecord(pid=pid, born=f"{boot}/{fields[18]}")


def record_by_ps(pid: int) -> ProcessRecord | None:
    """The same as `record_of`, for systems without /proc. The start time is exact only to the second."""
    answer = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    state, _, born = answer.stdout.strip().partition(" ")
    return None if not state or state.startswith("Z") else ProcessRecord(pid=pid, born=born.strip())


def is_running(record: ProcessRecord | None) -> bool:
    """Whether exactly this process is alive."""
    return record is not None and record_of(record.pid) == record


def send(record: ProcessRecord, number: signal.Signals) -> None:
    """Send a signal to this process if it is still alive, else do nothing."""
    if is_running(record):
        with contextlib.suppress(ProcessLookupError):
            os.kill(record.pid, number)


class Launcher:
    """Starts and stops processes, and collects the exit codes of its own children."""

    def __init__(self) -> None:
        self._children: dict[int, subprocess.Popen[bytes]] = {}

    def start(self, launch: Launch, *, record: Callable[[ProcessRecord], None]) -> ProcessRecord:
        """Start a process in its own session. Its program begins only after `record` has returned."""
        launch.log.parent.mkdir(parents=True, exist_ok=True)
        if launch.log.exists():  # keep the log of the process before this one
            launch.log.replace(launch.log.with_suffix(".log.1"))
        with launch.log.open("ab") as log:
            child = subprocess.Popen(
                ["/bin/sh", "-c", WAIT_FOR_WORD, launch.name, *launch.argv],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=launch.directory,
                env=dict(launch.environment),
                start_new_session=True,
                umask=0o077,
                **as_account(launch.account),
            )
        self._children[child.pid] = child
        started = record_of(child.pid)
        if started is None:
            raise ChildProcessError(f"{launch.name} ended before its program began; see {launch.log}")
        record(started)
        assert child.stdin is not None
        # If the shell has already ended, whoever waits for the server notices that and reports the log.
        with contextlib.suppress(BrokenPipeError), child.stdin as shell:
            shell.write(b"go\n")
        return started

    def stop(self, record: ProcessRecord, *, number: signal.Signals, limit: float) -> None:
        """Send the signal `number` to the process, kill it after `limit` seconds, and return when it has ended."""
        send(record, number)
        if not wait_until(lambda: not self.is_running(record), limit=limit):
            send(record, signal.SIGKILL)
            wait_until(lambda: not self.is_running(record), limit=KILL_LIMIT)

    def is_running(self, record: ProcessRecord | None) -> bool:
        """Like the function `is_running`; also collects the exit code if the process was a child and has ended."""
        alive = is_running(record)
        if record is not None and not alive and (child := self._children.pop(record.pid, None)) is not None:
            child.wait()
        return alive


class Identity(TypedDict, total=False):
    """Arguments of subprocess that run a program as another user."""

    user: int
    group: int
    extra_groups: list[int]


def as_account(account: Account | None) -> Identity:
    """The arguments that make subprocess run a program as that user, without our groups."""
    if account is None or account.uid == os.geteuid():
        return {}
    return {"user": account.uid, "group": account.gid, "extra_groups": []}


def tail(log: Path, lines: int = 20) -> str:
    """The last lines of a log, cut to a readable width, for a message; empty if there is no log."""
    try:
        text = log.read_bytes()[-16_384:].decode(errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(line[:WIDTH] for line in text.splitlines()[-lines:])
