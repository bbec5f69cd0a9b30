"""`taskbell messages`."""

import json
import re

import pytest
from tests.unit.common.cli.test_root import run

from taskbell.contracts import CATALOGUE


def test_every_message_is_listed_with_its_fields(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("messages") == 0
    printed = capsys.readouterr().out
    for key, message in CATALOGUE.items():
        (row,) = re.findall(rf"^ {re.escape(key)} .*$", printed, re.MULTILINE)
        assert message.exchange in row
        assert (message.queue or "") in row
        assert message.meaning in row
        (fields,) = re.findall(rf"^{re.escape(key)}\n((?:  .*\n)*)", printed, re.MULTILINE)
        assert [line.split()[0] for line in fields.splitlines()] == _required_first(key)


def _required_first(key: str) -> list[str]:
    fields = CATALOGUE[key].contract.model_fields.items()
    return sorted((name for name, _ in fields), key=lambda name: not dict(fields)[name].is_required())


def test_a_field_is_told_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    run("messages")
    lines = {re.sub(" +", " ", line.strip()) for line in capsys.readouterr().out.splitlines()}
    assert lines >= {
        "task_id required integer",
        "new_status required pending | in_progress | done | cancelled",
        "requested_by optional text or null",
        "user_ids optional list of integer, at most 10000 or null",
        "occurrence optional moment (RFC 3339) or null",
        "date required date (YYYY-MM-DD)",
        "force optional true or false",
        "counts required object of integer",
        "mode optional archive | delete",
    }


def test_programs_get_the_same_with_schemas(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("messages", "--json") == 0
    listed = {message["routing_key"]: message for message in json.loads(capsys.readouterr().out)}
    assert set(listed) == set(CATALOGUE)
    update = listed["maintenance.update_task_status"]
    schema = update.pop("schema")
    assert update == {
        "routing_key": "maintenance.update_task_status",
        "kind": "command",
        "exchange": "taskbell.commands",
        "queue": "maintenance.update_task_status",
        "consumer": "maintenance",
        "package": "taskbell",
        "mandatory": True,
        "has_outcome": True,
        "published_by": "web app, anyone",
        "meaning": "change one task's status",
        "required": ["task_id", "new_status"],
        "optional": ["expected_status", "requested_by"],
    }
    assert schema["properties"]["task_id"] == {
        "maximum": 2**63 - 1,
        "minimum": 1,
        "title": "Task Id",
        "type": "integer",
    }
