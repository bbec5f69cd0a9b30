"""Finding RabbitMQ and PostgreSQL, wherever a package puts them."""

from pathlib import Path

import pytest

from taskbell_devstack import programs
from taskbell_devstack.programs import find_postgresql, find_rabbitmq


def make_program(path: Path, answer: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{answer}'\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with nothing installed but what a test puts below this folder."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(programs, "POSTGRESQL", (f"{tmp_path}/postgresql/*/bin",))
    monkeypatch.setattr(programs, "RABBITMQ_SCRIPTS", (f"{tmp_path}/rabbitmq/bin/rabbitmq-server",))
    monkeypatch.setattr(programs, "EPMD", (f"{tmp_path}/erlang/erts-*/bin/epmd",))
    return tmp_path


def install_postgresql(folder: Path, version: str) -> Path:
    make_program(folder / "initdb")
    make_program(folder / "postgres", f"postgres (PostgreSQL) {version}")
    return folder.resolve()


def test_nothing_is_found_where_nothing_is(machine: Path) -> None:
    assert find_postgresql() is None
    assert find_rabbitmq() is None


def test_the_newest_postgresql_is_taken(machine: Path) -> None:
    install_postgresql(machine / "postgresql/9.6/bin", "9.6.24")
    install_postgresql(machine / "postgresql/15/bin", "15.8 (Debian 15.8-0+deb12u1)")
    newest = install_postgresql(machine / "bin", "17.2")
    found = find_postgresql()
    assert found is not None
    assert (found.folder, found.major) == (newest, 17)


def test_data_of_an_older_version_get_the_programs_of_that_version(machine: Path) -> None:
    older = install_postgresql(machine / "postgresql/13/bin", "13.18")
    install_postgresql(machine / "postgresql/17/bin", "17.2")
    found = find_postgresql(13)
    assert found is not None
    assert found.folder == older
    assert find_postgresql(14) is None


def test_postgresql_before_13_is_not_good_enough(machine: Path) -> None:
    install_postgresql(machine / "postgresql/12/bin", "12.22")
    assert find_postgresql() is None


def test_a_client_only_installation_is_no_server(machine: Path) -> None:
    make_program(machine / "postgresql/15/bin/psql")
    assert find_postgresql() is None


def test_rabbitmqs_own_script_comes_before_the_one_on_the_path(machine: Path) -> None:
    wrapper = make_program(machine / "bin/rabbitmq-server")
    epmd = make_program(machine / "erlang/erts-13.1.5/bin/epmd")
    found = find_rabbitmq()
    assert found is not None
    assert (found.server, found.epmd) == (wrapper, epmd)

    script = make_program(machine / "rabbitmq/bin/rabbitmq-server")
    found = find_rabbitmq()
    assert found is not None
    assert found.server == script


def test_rabbitmq_without_erlangs_port_mapper_is_not_enough(machine: Path) -> None:
    make_program(machine / "rabbitmq/bin/rabbitmq-server")
    assert find_rabbitmq() is None
