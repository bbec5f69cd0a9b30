"""The state file: always whole, private, and true."""

import socket
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from taskbell_devstack.ports import pick_free
from taskbell_devstack.processes import ProcessRecord
from taskbell_devstack.state import InboxSettings, StackState, StateFile


@pytest.fixture
def file(tmp_path: Path) -> StateFile:
    return StateFile(tmp_path)


def test_nothing_was_ever_started_where_there_is_no_file(file: StateFile) -> None:
    assert file.read() == StackState()


def test_a_change_is_read_back(file: StateFile) -> None:
    with file.change() as state:
        state.processes["inbox"] = ProcessRecord(pid=7, born="then")
        state.inbox = InboxSettings(smtp_port=1, imap_port=2, http_port=3)
    assert StateFile(file.directory).read() == state


def test_passwords_are_for_the_owners_eyes(file: StateFile) -> None:
    with file.change():
        pass
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600


def test_a_change_that_fails_leaves_the_file_as_it_was(file: StateFile) -> None:
    with file.change() as state:
        state.processes["kept"] = ProcessRecord(pid=1, born="then")

    def fail() -> None:
        with file.change() as state:
            state.processes.clear()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(file.read().processes) == ["kept"]


def test_changes_by_several_commands_at_once_do_not_lose_each_other(file: StateFile) -> None:
    def remember(number: int) -> None:
        with StateFile(file.directory).change() as state:
            state.processes[str(number)] = ProcessRecord(pid=number, born="then")

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(remember, range(40)))
    assert {int(name) for name in file.read().processes} == set(range(40))


def test_settings_move_away_only_from_ports_that_are_taken() -> None:
    free = pick_free()
    other_free = pick_free(besides={free})
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]
        had = InboxSettings(smtp_port=free, imap_port=taken, http_port=other_free)
        assert had.moved(lambda: 12_345) == InboxSettings(smtp_port=free, imap_port=12_345, http_port=other_free)
