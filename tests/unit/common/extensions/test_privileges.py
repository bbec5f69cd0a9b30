"""What roles may do on the broker with a package: who is not granted publishes nothing, and no tag gives powers."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.packages import TIMESHEETS, Packages, packages_in

from taskbell.extensions import installed
from taskbell.setup.packages import asks_for, choose, unknown
from taskbell.setup.privileges import ROLES, access_of, grants_of, keys_in, roles

KEYS = {"timesheets.approve", "month.closed"}


@pytest.fixture
def packages(tmp_path: Path) -> Iterator[Packages]:
    with packages_in(tmp_path / "site") as packages:
        yield packages


def published(role: str) -> set[str]:
    """The package's keys that the role may publish when all are granted."""
    return KEYS & {key for expression in access_of(role, installed()).topics.values() for key in keys_in(expression)}


def test_a_package_that_is_not_granted_adds_no_role_and_nothing_to_publish(packages: Packages) -> None:
    before = {role: access_of(role, ()) for role in ROLES}
    packages.install("acme-timesheets", TIMESHEETS)
    assert roles(()) == ROLES
    for role in ROLES:
        assert access_of(role, ()).topics == before[role].topics
        assert access_of(role, ()).write == before[role].write
    assert access_of("operator", ()).read == r"^(notifier|maintenance|timesheets)\.dead$"


def test_a_package_that_is_granted_has_its_messages_published_by_whom_it_says(packages: Packages) -> None:
    packages.install("acme-timesheets", TIMESHEETS)
    assert roles(installed()) == (*ROLES, "timesheets")
    assert {role: published(role) for role in roles(installed())} == {
        "scheduler": KEYS,
        "notifier": set(),
        "maintenance": {"timesheets.approve"},
        "app": {"timesheets.approve"},
        "operator": {"timesheets.approve"},
        "timesheets": KEYS,
    }
    assert [grant.table for grant in grants_of("notifier", installed())] == ["app.teams"]


HANDLED = """
from taskbell.extend import Contract, Extension, Handler, Message

class Purge(Contract):
    pass

async def purge(transaction, commands):
    return []

extension = Extension(
    messages=(Message("maintenance.purge", "command", Purge, "x", "x", "maintenance", by_anyone=True),),
    handlers=(Handler(Purge, purge),),
)
"""


def test_a_service_reads_the_queues_of_what_is_installed_beside_it_granted_or_not(packages: Packages) -> None:
    packages.install("acme-attachments", HANDLED)
    assert "maintenance.purge" in keys_in(access_of("maintenance", ()).read)
    assert "maintenance.purge" not in keys_in(access_of("notifier", ()).read)


@pytest.mark.parametrize("name", ["administrator", "monitoring", "management", "policymaker"])
def test_no_package_becomes_an_administrator_by_its_name(packages: Packages, name: str) -> None:
    packages.install(name, TIMESHEETS)
    assert access_of("timesheets", installed()).tags == f"package:{name}"
    assert access_of("notifier", installed()).tags == ""


def test_nobody_is_asked_about_a_package_that_asks_for_nothing(packages: Packages) -> None:
    packages.install("acme-nothing", "from taskbell.extend import Extension\nextension = Extension()")
    choice = choose(installed(), [], "public", ask=None)
    assert [it.package for it in choice.granted] == ["acme-nothing"]


def test_names_are_compared_as_pip_does(packages: Packages) -> None:
    packages.install("acme-timesheets", TIMESHEETS)
    assert unknown(installed(), ["Acme_Timesheets", "acme.timesheets", "acme"]) == ["acme"]
    choice = choose(installed(), ["ACME.timesheets", "gone"], "public")
    assert ([it.package for it in choice.granted], choice.refused, choice.unknown) == (
        ["acme-timesheets"],
        [],
        ["gone"],
    )


def test_who_publishes_a_message_that_is_for_schedules_alone_is_said(packages: Packages) -> None:
    source = TIMESHEETS.replace('timesheets", by_anyone=True', 'timesheets", by_anyone=False')
    packages.install("acme-timesheets", source)
    (package,) = installed()
    assert "schedules alone may publish timesheets.approve" in asks_for(package, "public")
