"""The demo, as whoever tries Taskbell first meets it."""

import asyncio
import imaplib
import json
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest
from tests.support.waiting import eventually

from taskbell.messaging.topology import topology
from taskbell_devstack import inbox
from taskbell_devstack.ports import answers
from taskbell_devstack.processes import is_running
from taskbell_devstack.stack import Stack


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a blank in its name, which PostgreSQL's user can reach."""
    path = Path(tempfile.mkdtemp(prefix="taskbell demo "))
    path.chmod(0o755)
    yield path / ".dev"
    Stack(path / ".dev").down(at_once=True, remove_data=True)
    shutil.rmtree(path)


def dev(folder: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "taskbell_devstack", *arguments, "--directory", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_demo_shows_everything_and_can_be_run_again_and_stopped(folder: Path) -> None:
    summary = dev(folder, "demo")
    for words in ("7 sent    8 sent   10 sent", "Report of ", "Archived 18 tasks", "Changed pending to in_progress"):
        assert words in summary
    status = json.loads(dev(folder, "status", "--json"))
    assert mails_in_the_inbox(status) == 7 + 8 + 10 + 1
    assert queues(status) == {queue.name for queue in topology().queues}
    assert set(status["services"]) == {"scheduler", "notifier", "maintenance"}
    for url in (status["inbox_url"], *(it["http_url"] + "/readyz" for it in status["services"].values())):
        assert httpx.get(url, trust_env=False).status_code == 200

    settings = exported(dev(folder, "env"))
    assert settings["DATABASE_URL"] == status["database_url"]
    assert settings["BROKER_URL"] == status["broker_url"]

    own = {f"taskbell_{name}" for name in ("scheduler", "notifier", "maintenance")}
    asyncio.run(eventually(lambda: connected_as(status["database_url"], own), what="a session of each service's role"))
    assert broker_logins(status) == own
    for name in status["services"]:
        assert not secrets_of_others(status["services"][name]["pid"], name, settings)
    shell = settings | exported(dev(folder, "env", "--role", "operator"))
    assert urlsplit(shell["DATABASE_URL"]).username == urlsplit(shell["BROKER_URL"]).username == "taskbell_operator"
    left = set(re.findall(r"^unset (\w+)$", dev(folder, "env", "--role", "operator"), re.MULTILINE))
    assert {name for name in shell.keys() - left if re.search("PASSWORD|SECRET|MANAGEMENT", name)} == set()
    shown = subprocess.run(
        [sys.executable, "-c", "from taskbell.cli import main; main()", "mail", "why", "--user", "1"],
        env={name: value for name, value in shell.items() if name not in left},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "weekly" in shown.stdout, shown.stderr

    assert "7 sent    8 sent   10 sent" in dev(folder, "demo")
    assert mails_in_the_inbox(status) == 2 * (7 + 8 + 10) + 1

    state = Stack(folder).state
    dev(folder, "down")
    assert not [port for port in state.taken_ports() if answers(port)]
    assert not [record for record in state.processes.values() if is_running(record)]


def test_a_role_that_nobody_has_made_yet_has_no_settings(folder: Path) -> None:
    dev(folder, "up")
    command = [sys.executable, "-m", "taskbell_devstack", "env", "--role", "notifier", "--directory", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "taskbell_notifier does not exist yet" in done.stderr


def exported(words: str) -> dict[str, str]:
    """The variables that these lines of a shell export."""
    parts = (shlex.split(line) for line in words.splitlines())
    return dict(part[1].split("=", 1) for part in parts if part[0] == "export")


async def connected_as(database_url: str, own: set[str]) -> bool:
    """Whether Taskbell's services are connected under just these roles."""
    found = await logins(database_url)
    assert found <= own
    return found == own


async def logins(database_url: str) -> set[str]:
    """The roles under which Taskbell's services are connected."""
    connection = await asyncpg.connect(database_url)
    try:
        rows = await connection.fetch(
            "SELECT DISTINCT usename FROM pg_stat_activity"
            " WHERE datname = 'taskbell' AND application_name LIKE 'taskbell%'"
        )
    finally:
        await connection.close()
    return {row["usename"] for row in rows}


def broker_logins(status: dict[str, Any]) -> set[str]:
    answer = httpx.get(f"{status['broker_management_url']}/api/connections", trust_env=False)
    return {connection["user"] for connection in answer.json()}


def secrets_of_others(pid: int, service: str, settings: dict[str, str]) -> set[str]:
    """The names of passwords that this service's process was given, and that are not its own."""
    given = Path(f"/proc/{pid}/environ").read_text()
    passwords = {name: value for name, value in settings.items() if name.endswith("_PASSWORD")}
    passwords["DATABASE_URL"] = str(urlsplit(settings["DATABASE_URL"]).password)
    passwords["BROKER_URL"] = str(urlsplit(settings["BROKER_URL"]).password)
    if service != "notifier":
        passwords["SECRET_KEY"] = settings["SECRET_KEY"]
    return {name for name, value in passwords.items() if value in given and not name.startswith(service.upper())}


def mails_in_the_inbox(status: dict[str, Any]) -> int:
    with imaplib.IMAP4(status["mail_server"], status["imap_port"]) as reader:
        reader.login(inbox.USER, inbox.PASSWORD)
        _, (count,) = reader.select("INBOX", readonly=True)
    return int(count or 0)


def queues(status: dict[str, Any]) -> set[str]:
    answer = httpx.get(f"{status['broker_management_url']}/api/queues", trust_env=False)
    return {queue["name"] for queue in answer.json()}
