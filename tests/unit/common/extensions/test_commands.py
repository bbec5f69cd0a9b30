"""What the command says of installed packages, and of two that offer one name."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.packages import TIMESHEETS, Packages, packages_in
from tests.unit.common.cli.test_root import GROUP, run


@pytest.fixture
def packages(tmp_path: Path) -> Iterator[Packages]:
    with packages_in(tmp_path / "site") as packages:
        yield packages


def test_messages_are_listed_with_their_package(packages: Packages, capsys: pytest.CaptureFixture[str]) -> None:
    packages.install("acme-timesheets", TIMESHEETS)
    assert run("messages") == 0
    lines = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines() if " " in line.strip()}
    assert lines["timesheets.approve"][1:4] == ["taskbell.commands", "timesheets.approve", "anyone"]
    assert lines["timesheets.approve"][-1] == "acme-timesheets"
    assert lines["weekly.due"][-1] == "taskbell"


def test_without_packages_there_is_no_such_column(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("messages") == 0
    assert "package" not in capsys.readouterr().out.splitlines()[1]


def test_programs_are_told_the_consumer_and_the_package(packages: Packages, capsys: pytest.CaptureFixture[str]) -> None:
    packages.install("acme-timesheets", TIMESHEETS)
    assert run("messages", "--json") == 0
    listed = {it["routing_key"]: it for it in json.loads(capsys.readouterr().out)}
    assert [listed["timesheets.approve"][it] for it in ("consumer", "package")] == ["timesheets", "acme-timesheets"]
    assert [listed["month.closed"][it] for it in ("consumer", "package")] == [None, "acme-timesheets"]


ODD = """
from typing import Any, Literal
from taskbell.extend import Contract, Extension, Message

class Inner(Contract):
    depth: int

class Odd(Contract):
    anything: Any
    inner: Inner
    free: dict[str, Any]
    one: Literal["only"]
    level: Literal[1, 2]
    listed: list
    pair: tuple[int, str]

extension = Extension(messages=(Message("odd.happened", "event", Odd, "anyone", "odd", None, by_anyone=True),))
"""


def test_whatever_fields_a_package_has_they_are_listed(packages: Packages, capsys: pytest.CaptureFixture[str]) -> None:
    packages.install("acme-odd", ODD)
    assert run("messages") == 0
    fields = dict(
        line.split(" required ") for line in capsys.readouterr().out.partition("\nodd.happened\n")[2].splitlines()
    )
    assert {name.strip(): words.strip() for name, words in fields.items()} == {
        "anything": "any",
        "inner": "object",
        "free": "object",
        "one": "only",
        "level": "1 | 2",
        "listed": "list of any",
        "pair": "list of any, at most 2",
    }


def test_version_lists_packages_without_importing_them(packages: Packages, capsys: pytest.CaptureFixture[str]) -> None:
    packages.install("acme-timesheets", "1 / 0", version="2.3")
    assert run("version") == 0
    assert "acme-timesheets 2.3" in capsys.readouterr().out.splitlines()


def test_two_command_groups_of_one_name_are_refused_and_others_work(
    packages: Packages, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("acme-emus", "acme-llamas"):
        packages.install(name, GROUP, groups={"taskbell.commands": {"animals": f"{name.replace('-', '_')}:app"}})
    assert run("animals", "feed", "3") == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == (
        "taskbell: packages acme-emus and acme-llamas both offer animals (taskbell.commands): remove one of them\n"
    )
    assert run("--help") == 0
    assert "acme-emus and acme-llamas both offer animals" in " ".join(capsys.readouterr().out.split())
    assert run("version") == 0


def test_two_services_of_one_name_are_refused(packages: Packages, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("acme-emus", "acme-llamas"):
        packages.install(name, "", groups={"taskbell.services": {"animals": f"{name.replace('-', '_')}:service"}})
    assert run("run", "animals") == 2
    assert capsys.readouterr().err == (
        "taskbell: packages acme-emus and acme-llamas both offer animals (taskbell.services): remove one of them\n"
    )


def test_a_message_that_two_packages_claim_is_told_by_whatever_needs_the_catalogue(
    packages: Packages, capsys: pytest.CaptureFixture[str]
) -> None:
    packages.install("acme-timesheets", TIMESHEETS)
    packages.install("other-timesheets", TIMESHEETS)
    assert run("messages") == 2
    assert "packages acme-timesheets and other-timesheets both claim the message" in capsys.readouterr().err
    assert run("version") == 0
