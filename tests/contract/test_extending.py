"""The package in docs/extending.md is one that works, and setup says of it what the page shows."""

import re
import subprocess
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from tests.support.packages import packages_in

from taskbell.catalogue import catalogue
from taskbell.extensions import Installed, installed
from taskbell.kinds import Recipient
from taskbell.messaging.topology import topology
from taskbell.setup.packages import asks_for
from taskbell_notifier.mail.links import Links
from taskbell_notifier.mail.render import Renderer

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "extending.md").read_text()


def indented(first_line: str) -> str:
    """The example that begins with that line."""
    match = re.search(rf"^    {re.escape(first_line)}\n((?:(?:    .*)?\n)*)", PAGE, re.MULTILINE)
    assert match
    return "\n".join(line.removeprefix("    ") for line in match[1].splitlines()).rstrip()


def module(name: str) -> str:
    """The source of that module."""
    match = re.search(rf"^```python\n(# {re.escape(name)}/__init__.py\n.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert match
    return match[1]


@pytest.fixture
def package(tmp_path: Path) -> Iterator[Installed]:
    """It, installed as its pyproject.toml says."""
    project = tomllib.loads(indented("# pyproject.toml"))["project"]
    source = module("acme_timesheets")
    with packages_in(tmp_path) as packages:
        packages.install(project["name"], source, version=project["version"], groups=project["entry-points"])
        (found,) = installed()
        yield found


def test_it_can_be_used(package: Installed) -> None:
    assert {"maintenance.approve_entry", "entry.approved"} <= set(catalogue())
    assert package.services == ("payroll",)


def test_setup_says_what_the_page_shows(package: Installed) -> None:
    lines = indented("$ taskbell setup").splitlines()
    assert lines[0] == f"Package {package.package} {package.version} asks that"
    assert lines[1:-1] == [f"  {wish}" for wish in asks_for(package, "public")]
    assert lines[-1] == "Grant it? [y/N]:"


def test_its_service_has_the_queues_that_the_page_lists(package: Installed) -> None:
    shown = set(re.findall(r"^\| queue `([a-z_.]+)`", PAGE, re.MULTILINE))
    queues = {queue.name for queue in topology().queues if queue.name.startswith("payroll.")}
    assert queues == shown - {"payroll.close_month"}, "which is of a command that the example does not have"


def test_its_mailing_has_all_that_a_mail_needs(tmp_path: Path) -> None:
    templates = {
        "html": indented("<!-- acme_urgent/templates/urgent.html.j2 -->"),
        "txt": indented("{# acme_urgent/templates/urgent.txt.j2 #}"),
    }
    files = {f"acme_urgent/templates/urgent.{form}.j2": source for form, source in templates.items()}
    with packages_in(tmp_path) as packages:
        packages.install("acme-urgent", "", files={"acme_urgent/__init__.py": module("acme_urgent")} | files)
        (found,) = installed()
        (kind,) = found.extension.kinds
        now = datetime(2026, 11, 20, 8, tzinfo=UTC)
        recipient = Recipient(7, "Ada", "ada@example.org", ZoneInfo("UTC"))
        renderer = Renderer({kind.name: kind}, Links("https://app.example.org"))
        mail = renderer.render(kind, recipient, kind.sample(now), at=now, now=now)
    assert mail.subject == "1 urgent task"
    for form in (mail.text, mail.html):
        assert "Sign the contract" in form
        assert "https://app.example.org/tasks/1" in form


@pytest.mark.parametrize("example", ["unassigned", "assigned"])
def test_the_examples_are_as_large_as_the_page_says(example: str) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "."],
        cwd=ROOT / "examples" / example, capture_output=True, text=True, check=True,
    )  # fmt: skip
    names = [name for name in listed.stdout.splitlines() if name != "README.md"]
    lines = sum(len((ROOT / "examples" / example / name).read_text().splitlines()) for name in names)
    row = re.search(rf"^\| \[examples/{example}\]\(.*\) \| .* \| (\d+) \| (\d+) \|$", PAGE, re.MULTILINE)
    assert row
    assert row.groups() == (str(len(names)), str(lines))


def test_a_mailing_takes_four_files_and_imports_the_public_module_alone() -> None:
    package = ROOT / "examples" / "unassigned"
    files = [it for it in package.rglob("*") if it.is_file() and "__pycache__" not in it.parts]
    assert len([it for it in files if it.name != "README.md"]) <= 4
    for example in ("unassigned", "assigned"):
        source = (ROOT / "examples" / example / f"taskbell_{example}" / "__init__.py").read_text()
        assert set(re.findall(r"^(?:from|import) (taskbell[\w.]*)", source, re.MULTILINE)) == {"taskbell.extend"}
