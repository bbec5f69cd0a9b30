"""Runs other programs that do the same work, in turn with ours, on the same servers.

A folder of peers has `run.py`, which takes --peer, --scenario and the other arguments below and prints one line of
JSON; `dataset.py load --size`, which makes its data; and `requirements.txt`. It gets the servers' URLs in PEERBENCH_PG,
PEERBENCH_AMQP and PEERBENCH_MGMT.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg

from benchmarks.result import Result
from benchmarks.servers import Servers
from benchmarks.sinks import smtp_sink, stand_in
from benchmarks.targets import TUNED, USUAL

DATABASE = "peerbench_{size}"
LIMIT = 1800.0  # seconds for one run of a peer
BESIDES = "sqlalchemy<2.1"
"""A constraint that the peers' requirements lack: they rely on `postgresql://` meaning psycopg2, as before 2.1."""


@dataclass(frozen=True)
class Peer:
    """A program that does the work of one case."""

    case: str
    who: str
    size: str
    arguments: Sequence[str]


def _peer(case: str, who: str, scenario: str, size: str, *arguments: str) -> Peer:
    name = "seed" if who == USUAL else "tuned"
    return Peer(case, who, size, ("--peer", name, "--scenario", scenario, "--size", size, *arguments))


FIFTY = ("-c", "4", "--batch", "50", "--prefetch", "4", "--queue", "quorum")
PEERS = (
    _peer("mailing", USUAL, "A", "M"),
    _peer("mailing", TUNED, "A", "M", *FIFTY),
    _peer("slow-smtp", TUNED, "A", "S", "--delay", "0.05", "--pool", "threads", "-c", "64", "--queue", "quorum"),
    _peer("commands", USUAL, "B", "M"),
    _peer("commands", TUNED, "B", "M", "-c", "4", "--queue", "quorum"),
    _peer("cleanup", USUAL, "C", "L"),
    _peer("cleanup", TUNED, "C", "L"),
    _peer("report", USUAL, "D", "L"),
    _peer("report", TUNED, "D", "L"),
)


class Peers:
    """The peers of one folder, installed into their own virtual environment."""

    def __init__(self, folder: Path, servers: Servers) -> None:
        self._folder = folder.absolute()
        self._servers = servers
        wanted = hashlib.sha256((self._folder / "requirements.txt").read_bytes() + BESIDES.encode()).hexdigest()[:12]
        self._venv = Path(tempfile.gettempdir()) / f"taskbell-peers-{os.getuid()}-{wanted}"

    def install(self) -> None:
        """Makes the virtual environment, if it does not exist."""
        done = self._venv / "done"
        if not done.exists():
            subprocess.run([sys.executable, "-m", "venv", "--clear", self._venv], check=True)
            wanted = str(self._folder / "requirements.txt")
            subprocess.run(
                [self._venv / "bin/python", "-m", "pip", "install", "-qq", BESIDES, "-r", wanted], check=True
            )
            done.touch()

    async def run(self, peer: Peer) -> Result:
        """Runs one peer, on its own copy of its data."""
        await self._load(peer.size)
        return of_peer(peer, self._python("run.py", *peer.arguments, "--runs", "1"))

    async def _load(self, size: str) -> None:
        connection = await asyncpg.connect(self._servers.database_url)
        try:
            name = DATABASE.format(size=size.lower())
            known = await connection.fetchval("SELECT true FROM pg_database WHERE datname = $1", name)
        finally:
            await connection.close()
        if not known:
            self._python("dataset.py", "load", "--size", size)

    def _python(self, *arguments: str) -> dict[str, Any]:
        database, broker, management = (
            urlsplit(url)
            for url in (self._servers.database_url, self._servers.broker_url, self._servers.management_url)
        )
        environment = os.environ | {
            "PEERBENCH_PG": database._replace(path="").geturl(),
            "PEERBENCH_AMQP": broker._replace(path="").geturl(),
            "PEERBENCH_MGMT": management._replace(netloc=f"{management.hostname}:{management.port}").geturl(),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        if smtp_sink() is None:
            stand_in(self._venv / "sink")
            environment["PATH"] = f"{self._venv / 'sink'}:{environment['PATH']}"
        argv = [str(self._venv / "bin/python"), *arguments]
        done = subprocess.run(
            argv, cwd=self._folder, env=environment, check=False, timeout=LIMIT, capture_output=True, text=True
        )
        if done.returncode:
            msg = f"{' '.join(arguments)} failed: {done.stderr[-2000:]}"
            raise RuntimeError(msg)
        printed: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return printed


UNITS = {
    "mailing": ("mails", "mails"),
    "slow-smtp": ("mails", "mails"),
    "commands": ("commands", "commands"),
    "cleanup": ("rows", "tasks"),
}
"""By case: the name that a peer gives to the number of units, and the name that we give to the units."""


def of_peer(peer: Peer, printed: Mapping[str, Any]) -> Result:
    """The result in a peer's line of JSON."""
    (run,) = printed["runs"]
    count, unit = UNITS.get(peer.case, (None, "reports"))
    names = {"worker": "workers", "postgres": "postgresql"}
    return Result(
        case=peer.case,
        who=peer.who,
        what=" ".join(peer.arguments),
        units=1 if count is None else int(run[count]),
        unit=unit,
        seconds=float(run["wall_s"]),
        first=run.get("first_mail_s"),
        cpu={names.get(name, name): value for name, value in run["cpu_s"].items() if name not in IGNORED},
        peak_mb={"workers": float(run["peak_rss_process_mb"])},
        longest_transaction=run.get("longest_transaction_s"),
        others=run["others_share"],
        figures={"MB PSS, all workers": run["peak_pss_tree_mb"]},
    )


IGNORED = ("harness", "others", "steal")
