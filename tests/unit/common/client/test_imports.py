"""A web app installs `taskbell` alone, so its client may import nothing that comes with an extra."""

import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

LIBRARY = Path(__file__).parents[4] / "libs" / "common"

BLOCKED = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())
"""


def run(blocked: set[str], code: str) -> subprocess.CompletedProcess[str]:
    script = f"BLOCKED = {blocked!r}\n{BLOCKED}\n{code}"
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)


def modules_of(*extras: str) -> set[str]:
    """The import names of what these extras of `taskbell` add."""
    offered = tomllib.loads((LIBRARY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    declared = [requirement for extra in extras for requirement in offered[extra]]
    wanted = {requirement.split(">")[0].split("[")[0].split(";")[0].strip().lower() for requirement in declared}
    return {
        module
        for module, distributions in packages_distributions().items()
        if wanted & {name.lower() for name in distributions}
    }


def test_a_script_without_logging_is_told_of_a_failure_once() -> None:
    code = """
from taskbell.client import BrokerUnavailable, Client
from taskbell.contracts import UpdateTaskStatus
try:
    Client("amqp://127.0.0.1:1/").publish(UpdateTaskStatus(task_id=1, new_status="done"))
except BrokerUnavailable as error:
    print(error)
"""
    ended = run(set(), code)
    assert ended.stdout.startswith("RabbitMQ: ")
    assert ended.stderr == ""


def test_the_blocked_modules_are_those_of_the_extras() -> None:
    assert modules_of("service", "faststream") >= {
        "aio_pika",
        "faststream",
        "sqlalchemy",
        "sqlmodel",
        "asyncpg",
        "structlog",
        "typer",
        "alembic",
    }


def test_the_client_and_the_contracts_need_nothing_of_the_extras() -> None:
    done = run(modules_of("service", "faststream"), "import taskbell.client, taskbell.contracts; print('imported')")
    assert (done.returncode, done.stdout, done.stderr) == (0, "imported\n", "")


def test_an_app_on_faststream_needs_nothing_of_the_services() -> None:
    done = run(modules_of("service"), "import taskbell.faststream; print('imported')")
    assert (done.returncode, done.stdout, done.stderr) == (0, "imported\n", "")


def test_the_services_need_nothing_of_faststream() -> None:
    services = "taskbell_scheduler.app, taskbell_notifier.app, taskbell_maintenance.app, taskbell.setup.broker"
    done = run(modules_of("faststream"), f"import {services}; print('imported')")
    assert (done.returncode, done.stdout, done.stderr) == (0, "imported\n", "")


def test_the_client_brings_only_pydantic_and_aiormq_with_what_they_need() -> None:
    done = run(
        set(),
        """
from importlib.metadata import packages_distributions
before = set(sys.modules)
import taskbell.client
roots = {name.partition(".")[0] for name in set(sys.modules) - before}
owners = packages_distributions()
print(sorted({owner for root in roots for owner in owners.get(root, [])}))
""",
    )
    assert done.stderr == ""
    allowed = {
        "taskbell", "tzdata", "aiormq", "pamqp", "yarl", "multidict", "propcache", "idna",
        "pydantic", "pydantic_core", "annotated-types", "typing_extensions", "typing-inspection",
    }  # fmt: skip
    assert set(eval(done.stdout)) <= allowed


def test_the_command_without_the_extra_says_what_to_install() -> None:
    done = run(modules_of("service"), "sys.argv = ['taskbell', 'setup']; import taskbell.cli; taskbell.cli.main()")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (
        "taskbell: this command needs more than the client: pip install 'taskbell[service]' (typer is not installed)\n"
    )
