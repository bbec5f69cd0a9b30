"""`taskbell run`: which services it takes. In processes of their own, as running sets up logging and signals."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SERVICE = """
from taskbell.service import Application, Service
from taskbell.settings import CommonSettings

class Ends:
    async def run(self, stop):
        print("{name} ran")

service = Service("{name}", CommonSettings, lambda settings, process: Application([Ends()]))
"""

BROKEN = "raise RuntimeError"

PRELUDE = """
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from taskbell.cli import main, packages

def entry_points(group):
    return [EntryPoint(path.stem, f"{path.stem}:service", group) for path in sorted(Path.cwd().glob("*.py"))]

packages.entry_points = entry_points
sys.path.insert(0, "")
main()
"""

SETTINGS = {"DATABASE_URL": "postgresql://127.0.0.1:1/x", "BROKER_URL": "amqp://127.0.0.1:1/"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Each module in it is an installed service."""
    return tmp_path


def install(folder: Path, name: str, source: str = SERVICE) -> None:
    (folder / f"{name}.py").write_text(source.replace("{name}", name))


def run(folder: Path, *names: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PRELUDE, "run", *names],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if name not in SETTINGS} | settings,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_only_the_named_service_is_loaded_and_run(folder: Path) -> None:
    install(folder, "llamas")
    install(folder, "emus", BROKEN)
    done = run(folder, "llamas", **SETTINGS)
    assert (done.returncode, done.stdout) == (1, "llamas ran\n")  # 1: its only part ended by itself
    assert "emus" not in done.stderr


@pytest.mark.parametrize("names", [["all"], ["llamas", "emus"]])
def test_several_run_in_one_process(folder: Path, names: list[str]) -> None:
    install(folder, "llamas")
    install(folder, "emus")
    assert sorted(run(folder, *names, **SETTINGS).stdout.splitlines()) == ["emus ran", "llamas ran"]


@pytest.mark.parametrize(
    ("name", "status", "sentence"),
    [
        ("lamas", 2, "service 'lamas' is not installed; did you mean 'llamas'? Installed: emus, llamas"),
        ("xyzzy", 2, "service 'xyzzy' is not installed. Installed: emus, llamas"),
        ("emus", 1, "emus of an unknown package cannot be loaded: RuntimeError"),
        ("all", 1, "emus of an unknown package cannot be loaded: RuntimeError"),
    ],
)
def test_what_cannot_be_run_is_named(folder: Path, name: str, status: int, sentence: str) -> None:
    install(folder, "llamas")
    install(folder, "emus", BROKEN)
    done = run(folder, name, **SETTINGS)
    assert (done.returncode, done.stdout) == (status, "")
    assert f"taskbell: {sentence}" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_any_service_it_says_what_to_install(folder: Path) -> None:
    done = run(folder, "all", **SETTINGS)
    assert done.returncode == 2
    assert "install taskbell-scheduler, taskbell-notifier or taskbell-maintenance" in done.stderr


def test_a_wrong_setting_starts_nothing(folder: Path) -> None:
    install(folder, "llamas")
    done = run(folder, "llamas", DATABASE_URL=SETTINGS["DATABASE_URL"], TIMEZONE="Mars/Olympus")
    assert (done.returncode, done.stdout) == (2, "")
    assert "taskbell: llamas cannot start:\n" in done.stderr
    assert "BROKER_URL is not set" in done.stderr
    assert "TIMEZONE: 'Mars/Olympus' is not an IANA time zone" in done.stderr
    assert "Traceback" not in done.stderr
