"""`taskbell dev` where nothing runs."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from taskbell_devstack.cli import commands


def test_the_status_has_exactly_the_agreed_keys_and_null_for_what_does_not_run(tmp_path: Path) -> None:
    result = CliRunner().invoke(commands, ["status", "--json", "--directory", str(tmp_path / "none")])
    assert json.loads(result.stdout) == {
        "database_url": None,
        "broker_url": None,
        "broker_management_url": None,
        "inbox_url": None,
        "mail_server": None,
        "mail_port": None,
        "imap_port": None,
        "services": {},
    }
    assert result.exit_code == 1
    assert not (tmp_path / "none").exists()


def test_the_status_for_people_says_how_to_start(tmp_path: Path) -> None:
    result = CliRunner().invoke(commands, ["status", "--directory", str(tmp_path)])
    assert "taskbell dev up" in result.stdout
    assert result.exit_code == 1


def test_stopping_what_was_never_started_is_no_error(tmp_path: Path) -> None:
    result = CliRunner().invoke(commands, ["down", "--directory", str(tmp_path / "none")])
    assert result.exit_code == 0
    assert not (tmp_path / "none").exists()


def test_the_servers_of_a_checkout_are_the_same_from_any_folder_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "libs" / "devstack").mkdir(parents=True)
    deep = tmp_path / "docs" / "deep"
    deep.mkdir(parents=True)
    state = {"processes": {"inbox": {"pid": 1, "born": "never"}}}
    (tmp_path / ".dev").mkdir()
    (tmp_path / ".dev" / "state.json").write_text(json.dumps(state))
    monkeypatch.chdir(deep)
    result = CliRunner().invoke(commands, ["status"])
    assert "Nothing runs in" not in result.stdout
