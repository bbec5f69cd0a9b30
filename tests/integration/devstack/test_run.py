"""However a run of the tests ends, its servers end with it."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.servers import STACK, choose, given_urls

from taskbell_devstack.errors import DevstackError
from taskbell_devstack.ports import answers
from taskbell_devstack.stack import Stack
from taskbell_devstack.waiting import wait_until

CHECKOUT = Path(__file__).parents[3]
A_TEST = "tests/integration/devstack/test_fixtures.py"


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where the run puts its temporary files; PostgreSQL's user can reach it."""
    path = Path(tempfile.mkdtemp(prefix="taskbell run "))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_servers_of_an_interrupted_run_are_stopped(folder: Path, number: signal.Signals) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("TEST_", "TASKBELL_"))}
    run = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", A_TEST],
        cwd=CHECKOUT,
        env=environment | {"TMPDIR": str(folder), "TEST_SERVERS": "local"},
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )

    def broker_runs() -> bool:
        return any(Stack(path).runs("rabbitmq") for path in folder.glob(f"taskbell-tests-*/{STACK}"))

    assert wait_until(broker_runs, limit=60)
    (path,) = folder.glob(f"taskbell-tests-*/{STACK}")
    ports = Stack(path).state.taken_ports()

    os.killpg(run.pid, number)  # as a terminal does with Ctrl-C
    run.wait(60)

    assert wait_until(lambda: not list(folder.iterdir()), limit=60), list(folder.iterdir())
    assert [port for port in ports if answers(port)] == []


def test_servers_that_the_environment_names_are_used() -> None:
    environment = {
        "TEST_DATABASE_URL": "postgresql://a@db.example/x",
        "TEST_BROKER_URL": "amqp://b:c@broker.example:5673/",
    }
    assert choose(environment).kind == "given"
    urls = given_urls(environment)
    assert (urls.database_url, urls.broker_url) == tuple(environment.values())
    assert urls.management_url == "http://b:c@broker.example:15672"
    other = environment | {"TEST_BROKER_MANAGEMENT_URL": "http://d:e@other.example:1"}
    assert given_urls(other).management_url == "http://d:e@other.example:1"


def test_private_local_servers_can_be_asked_for() -> None:
    assert choose({"TEST_SERVERS": "local"}).kind == "local"
    with pytest.raises(DevstackError, match="TEST_SERVERS is 'locall': give containers or local"):
        choose({"TEST_SERVERS": "locall"})


def test_a_database_without_a_broker_is_a_mistake() -> None:
    with pytest.raises(DevstackError, match="TEST_DATABASE_URL is set: set TEST_DATABASE_URL and TEST_BROKER_URL both"):
        choose({"TEST_DATABASE_URL": "postgresql://a@db.example/x"})
