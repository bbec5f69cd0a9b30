"""A service does not start beside packages that cannot be used: real processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.packages import TIMESHEETS, packages_in

GIVEN = {
    "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nothing",
    "BROKER_URL": "amqp://127.0.0.1:1/",
    "MAIL_DEFAULT_SENDER": "t@example.org",
}


def ended(arguments: list[str], folder: Path, path: str) -> subprocess.CompletedProcess[str]:
    """How that process ended, with what is in PYTHONPATH installed."""
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_URL")}
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=folder,
        env=environment | GIVEN | {"PYTHONPATH": path},
    )


@pytest.mark.parametrize("service", ["scheduler", "notifier", "maintenance"])
def test_no_service_starts_if_two_packages_claim_one_name(service: str, tmp_path: Path) -> None:
    with packages_in(tmp_path / "site") as packages:
        packages.install("acme-timesheets", TIMESHEETS)
        packages.install("other-timesheets", TIMESHEETS.replace("month.closed", "quarter.closed"))
        done = ended(["-m", f"taskbell_{service}"], tmp_path, packages.path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        f"{service} cannot start:",
        "packages acme-timesheets and other-timesheets both claim the service timesheets: remove one of them",
        "packages acme-timesheets and other-timesheets both claim the message timesheets.approve: remove one of them",
    ]


def test_nor_by_the_command(tmp_path: Path) -> None:
    with packages_in(tmp_path / "site") as packages:
        packages.install("acme-broken", "import no_such_library")
        done = ended(["-c", "from taskbell.cli import main; main()", "run", "scheduler"], tmp_path, packages.path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "taskbell: scheduler cannot start:\nthe extension acme_broken of package acme-broken cannot be loaded: "
        "ModuleNotFoundError: No module named 'no_such_library'\n"
    )
