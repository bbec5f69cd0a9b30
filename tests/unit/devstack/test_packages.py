"""Installing Debian's packages: with the services kept from starting, or saying exactly what to install."""

import os
import shlex
from pathlib import Path

import pytest

from taskbell_devstack import packages
from taskbell_devstack.errors import ProgramsMissing

APT_GET = """#!/bin/sh
echo "$DEBIAN_FRONTEND $* policy=$(cat {policy} 2>/dev/null | tail -n1)" >> {calls}
case "$*" in *install*) {install} ;; *update*) {update} ;; esac
"""


class Machine:
    """A Debian whose apt-get is ours, and on which nothing is installed yet."""

    def __init__(self, folder: Path) -> None:
        self.calls = folder / "calls"
        self.policy = folder / "policy-rc.d"
        self.installed = folder / "installed"
        self.said: list[str] = []
        self._apt_get = folder / "bin" / "apt-get"
        self._apt_get.parent.mkdir()
        self.let_install(f"touch {shlex.quote(str(self.installed))}")

    def let_install(self, command: str, update: str = "exit 0") -> None:
        paths = {"policy": shlex.quote(str(self.policy)), "calls": shlex.quote(str(self.calls))}
        self._apt_get.write_text(APT_GET.format(install=command, update=update, **paths))
        self._apt_get.chmod(0o755)

    def ensure(self) -> list[str]:
        """What apt-get was called with."""
        packages.ensure(self.said.append, policy=self.policy)
        return self.calls.read_text().splitlines() if self.calls.exists() else []


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setattr(os, "geteuid", lambda: 0)

    def found() -> object:
        return object() if machine.installed.exists() else None

    monkeypatch.setattr(packages, "find_rabbitmq", found)
    monkeypatch.setattr(packages, "find_postgresql", found)
    return machine


def test_nothing_is_installed_where_all_is_there(machine: Machine) -> None:
    machine.installed.touch()
    assert machine.ensure() == []
    assert machine.said == []


def test_missing_packages_are_installed_while_services_may_not_start(machine: Machine) -> None:
    update, install = machine.ensure()
    assert update.endswith("update policy=exit 101")
    assert install.startswith("noninteractive ")
    assert install.endswith("install --yes --no-install-recommends rabbitmq-server postgresql policy=exit 101")
    assert not machine.policy.exists()
    assert machine.said == ["Installing rabbitmq-server and postgresql (their own services are kept from starting)"]


def test_an_index_that_cannot_be_had_does_not_keep_us_from_trying(machine: Machine) -> None:
    machine.let_install(f"touch {shlex.quote(str(machine.installed))}", update="exit 100")
    assert len(machine.ensure()) == 2


def test_only_what_is_missing_is_installed(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "find_rabbitmq", object)
    _, install = machine.ensure()
    assert "--no-install-recommends postgresql policy" in install


def test_somebody_elses_policy_stays_as_it_is(machine: Machine) -> None:
    machine.policy.write_text("#!/bin/sh\nexit 104\n")
    _, install = machine.ensure()
    assert install.endswith("policy=exit 104")
    assert machine.policy.read_text() == "#!/bin/sh\nexit 104\n"


def test_our_own_policy_left_by_a_crash_is_cleared_away(machine: Machine) -> None:
    machine.policy.write_text(packages.POLICY_TEXT)
    machine.ensure()
    assert not machine.policy.exists()


def test_the_policy_goes_also_when_the_installation_fails(machine: Machine) -> None:
    machine.let_install("echo 'E: Unable to locate package rabbitmq-server'; exit 100")
    with pytest.raises(ProgramsMissing, match="could not install them:\nE: Unable to locate package rabbitmq-server"):
        machine.ensure()
    assert not machine.policy.exists()


def test_a_policy_that_another_stack_has_cleared_away_is_no_failure(machine: Machine) -> None:
    with packages.services_kept_from_starting(machine.policy):
        machine.policy.unlink()
    assert not machine.policy.exists()


def test_the_policy_goes_also_when_we_are_interrupted(machine: Machine) -> None:
    def be_interrupted() -> None:
        with packages.services_kept_from_starting(machine.policy):
            assert machine.policy.exists()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        be_interrupted()
    assert not machine.policy.exists()


def test_whoever_is_not_root_is_told_exactly_what_to_install(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(ProgramsMissing) as told:
        machine.ensure()
    assert "RabbitMQ and PostgreSQL were not found" in str(told.value)
    assert "sudo apt-get install --no-install-recommends rabbitmq-server postgresql\n" in str(told.value)
    assert not machine.calls.exists()


def test_whoever_lacks_one_is_told_about_that_one_only(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(packages, "find_rabbitmq", object)
    with pytest.raises(ProgramsMissing) as told:
        machine.ensure()
    assert "PostgreSQL was not found" in str(told.value)
    assert "rabbitmq" not in str(told.value).lower()
