"""The package in docs/extending.md is one that works, and setup says of it what the page shows."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.packages import packages_in

from taskbell.catalogue import catalogue
from taskbell.extensions import Installed, installed
from taskbell.messaging.topology import topology
from taskbell.setup.packages import asks_for

PAGE = (Path(__file__).parents[2] / "docs" / "extending.md").read_text()


def indented(first_line: str) -> str:
    """The example that begins with that line."""
    match = re.search(rf"^    {re.escape(first_line)}\n((?:(?:    .*)?\n)*)", PAGE, re.MULTILINE)
    assert match
    return "\n".join(line.removeprefix("    ") for line in match[1].splitlines()).rstrip()


@pytest.fixture
def package(tmp_path: Path) -> Iterator[Installed]:
    """It, installed as its pyproject.toml says."""
    project = tomllib.loads(indented("# pyproject.toml"))["project"]
    source = re.search(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert source
    with packages_in(tmp_path) as packages:
        packages.install(project["name"], source[1], version=project["version"], groups=project["entry-points"])
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
