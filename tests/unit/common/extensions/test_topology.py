"""The queues of packages: declared like ours, each service's dead letters in a queue of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.packages import TIMESHEETS, packages_in

from taskbell.messaging.topology import Binding, consumers, topology
from taskbell.setup.definitions import definitions


@pytest.fixture(autouse=True)
def _installed(tmp_path: Path) -> Iterator[None]:
    with packages_in(tmp_path / "site") as packages:
        packages.install("acme-timesheets", TIMESHEETS)
        yield


def test_a_packages_messages_and_what_it_listens_to_have_queues() -> None:
    arguments = {queue.name: queue.arguments for queue in topology().queues}
    assert {name for name in arguments if name.startswith("timesheets.")} == {
        "timesheets.dead",
        "timesheets.approve",
        "timesheets.task_status_changed",
    }
    ours = arguments["maintenance.update_task_status"]
    for name in ("timesheets.approve", "timesheets.task_status_changed"):
        assert arguments[name] == ours | {"x-dead-letter-routing-key": "timesheets.dead"}
    assert arguments["timesheets.dead"] == arguments["maintenance.dead"]


def test_they_are_bound_by_their_keys() -> None:
    assert {it for it in topology().bindings if it.queue.startswith("timesheets.")} == {
        Binding("taskbell.dead", "timesheets.dead", "timesheets.dead"),
        Binding("taskbell.commands", "timesheets.approve", "timesheets.approve"),
        Binding("taskbell.events", "timesheets.task_status_changed", "task.status_changed"),
    }


def test_its_service_is_among_those_that_consume() -> None:
    assert consumers() == ("notifier", "maintenance", "timesheets")


def test_dead_letters_are_declared_before_what_dies_into_them() -> None:
    names = [queue.name for queue in topology().queues]
    assert names.index("timesheets.dead") < names.index("taskbell.retry.10s") < names.index("notifier.reminder_due")


def test_the_definitions_for_brokers_kept_in_files_have_them() -> None:
    assert "timesheets.approve" in {it["name"] for it in definitions()["queues"]}
