"""The root of the command: what it finds, what it imports, and what it says when something is wrong."""

import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from taskbell.cli import main, packages


def run(*arguments: str) -> int:
    """The exit status of the command, run in this process."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return int(ended.value.code or 0)


@pytest.fixture
def offered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder on the path for a package; `<name> = <module>:app` in each of its modules is offered as a group."""
    monkeypatch.syspath_prepend(tmp_path)

    def entry_points(group: str) -> list[EntryPoint]:
        modules = sorted(path.stem for path in tmp_path.glob("*.py"))
        return [EntryPoint(name.removeprefix("offers_"), f"{name}:app", group) for name in modules]

    monkeypatch.setattr(packages, "entry_points", entry_points)
    return tmp_path


GROUP = """
import typer
app = typer.Typer(help="Look after llamas.", rich_markup_mode=None)

@app.command("feed")
def feed(how_many: int) -> None:
    print(f"fed {how_many}")
"""


def test_a_package_adds_a_group(offered: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (offered / "offers_llamas.py").write_text(GROUP)
    assert run("llamas", "feed", "3") == 0
    assert capsys.readouterr().out == "fed 3\n"
    assert run("--help") == 0
    assert "llamas    Look after llamas." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import no_such_library", "ModuleNotFoundError: No module named 'no_such_library'"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("def (", "SyntaxError: "),
        ("", "AttributeError: module 'offers_llamas' has no attribute 'app'"),
    ],
)
def test_a_package_that_cannot_be_loaded_is_named_and_hides_no_other(
    offered: Path, capsys: pytest.CaptureFixture[str], source: str, reason: str
) -> None:
    (offered / "offers_llamas.py").write_text(source)
    (offered / "offers_emus.py").write_text(GROUP)
    sys.modules.pop("offers_llamas", None)
    assert run("llamas", "feed", "--now") == 1
    assert f"taskbell: llamas of an unknown package cannot be loaded: {reason}" in capsys.readouterr().err
    assert run("--help") == 0
    helped = capsys.readouterr().out
    assert "llamas" in helped
    assert "cannot be loaded" in helped
    assert run("emus", "feed", "1") == 0


def test_no_package_replaces_a_command_of_ours(offered: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (offered / "offers_version.py").write_text(GROUP)
    assert run("version") == 0
    assert capsys.readouterr().out.startswith("taskbell ")


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ("mesages", "unknown command 'mesages'; did you mean 'messages'?"),
        ("llama", "unknown command 'llama'; did you mean 'llamas'?"),
        ("xyzzy", "unknown command 'xyzzy'."),
    ],
)
def test_a_slip_is_answered_with_what_is_close(
    offered: Path, capsys: pytest.CaptureFixture[str], typed: str, sentence: str
) -> None:
    (offered / "offers_llamas.py").write_text(GROUP)
    assert run(typed) == 2
    assert sentence in capsys.readouterr().err


def test_version_names_the_installed_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("version") == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert names[0] == "taskbell"
    assert {"taskbell-scheduler", "taskbell-notifier", "taskbell-maintenance", "python"} <= set(names)


@pytest.mark.parametrize("arguments", [["version"], ["publish", "--help"], ["setup", "--help"], ["messages"]])
def test_a_command_imports_only_what_it_needs(arguments: list[str]) -> None:
    code = f"""
import atexit, sys
heavy = {{"sqlalchemy", "alembic", "faststream", "aio_pika", "asyncpg", "starlette", "structlog"}}
atexit.register(lambda: print("imported:", sorted(heavy & set(sys.modules)), file=sys.stderr))
from taskbell.cli import main
main({arguments!r})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "imported: []\n")
