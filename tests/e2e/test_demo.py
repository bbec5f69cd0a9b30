"""The demo, as whoever tries Taskbell first meets it."""

import imaplib
import json
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

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

    settings = dict(word.split("=", 1) for word in shlex.split(dev(folder, "env")) if word != "export")
    assert settings["DATABASE_URL"] == status["database_url"]
    assert settings["BROKER_URL"] == status["broker_url"]

    assert "7 sent    8 sent   10 sent" in dev(folder, "demo")
    assert mails_in_the_inbox(status) == 2 * (7 + 8 + 10) + 1

    state = Stack(folder).state
    dev(folder, "down")
    assert not [port for port in state.taken_ports() if answers(port)]
    assert not [record for record in state.processes.values() if is_running(record)]


def mails_in_the_inbox(status: dict[str, Any]) -> int:
    with imaplib.IMAP4(status["mail_server"], status["imap_port"]) as reader:
        reader.login(inbox.USER, inbox.PASSWORD)
        _, (count,) = reader.select("INBOX", readonly=True)
    return int(count or 0)


def queues(status: dict[str, Any]) -> set[str]:
    answer = httpx.get(f"{status['broker_management_url']}/api/queues", trust_env=False)
    return {queue["name"] for queue in answer.json()}
