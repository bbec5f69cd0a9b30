"""What `taskbell publish` refuses before it connects: a slip must not mail everybody."""

import io

import pytest
from tests.unit.common.cli.test_root import run

COMMAND = "maintenance.update_task_status"
BODY = '{"task_id": 1, "new_status": "done"}'


@pytest.fixture(autouse=True)
def _nowhere_to_publish(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.chdir(str(tmp_path))
    monkeypatch.delenv("BROKER_URL", raising=False)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["remainder.due"], "unknown message 'remainder.due'; did you mean 'reminder.due'?"),
        (["update_task_status"], f"unknown message 'update_task_status'; did you mean '{COMMAND}'?"),
        (["xyzzy"], "unknown message 'xyzzy'. `taskbell messages` lists all"),
        (["reminder.due", '{"user_id": [1]}'], "reminder.due has no field 'user_id'; did you mean 'user_ids'?"),
        (["reminder.due", '{"xyzzy": 1}'], "reminder.due has no field 'xyzzy'"),
        ([COMMAND], f"{COMMAND}: task_id: Field required; new_status: Field required."),
        ([COMMAND, '{"task_id": "1", "new_status": "done"}'], f"{COMMAND}: task_id: "),
        ([COMMAND, "task_id=1"], f"{COMMAND}: Invalid JSON"),
        ([COMMAND, "[]"], f"{COMMAND}: "),
        (["reminder.due", "--wait", "5"], "reminder.due has no outcome to wait for: leave --wait out"),
        (["notifier.send_batch", '{"delivery_ids": [1]}', "--wait", "5"], "notifier.send_batch has no outcome"),
        ([COMMAND, BODY, "--property", "colour=red"], "--property takes NAME=VALUE with correlation_id or traceparent"),
        ([COMMAND, BODY, "--property", "correlation-id=x"], "did you mean 'correlation_id'?"),
        ([COMMAND, BODY, "--property", "traceparent"], "--property takes NAME=VALUE"),
        (
            [COMMAND, BODY, "--property", "traceparent=xyz"],
            "traceparent must look like 00-4bf92f3577b34da6a3ce929d0e0e4736-",
        ),
        ([COMMAND, '{"task_id": 1, "requested_by": "\udcff"}'], "arguments must be UTF-8"),
        ([COMMAND, BODY], "BROKER_URL is not set: RabbitMQ, amqp://user:password@host:5672/"),
    ],
)
def test_it_says_what_is_wrong_in_a_sentence(
    capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    assert run("publish", *arguments) == 2
    said = capsys.readouterr()
    assert sentence in said.err
    assert said.out == ""


@pytest.mark.parametrize(
    "given", [["--message-id", ""], ["--message-id", "m" * 256], ["--property", "correlation_id=" + "c" * 256]]
)
def test_an_id_that_amqp_does_not_carry_is_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, given: list[str]
) -> None:
    monkeypatch.setenv("BROKER_URL", "amqp://127.0.0.1:1/")
    assert run("publish", COMMAND, BODY, *given) == 2
    assert "_id must have 1 to 255 bytes" in capsys.readouterr().err


def test_a_body_from_standard_input_that_is_no_text_is_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xff{}")))
    assert run("publish", COMMAND, "-") == 2
    assert "standard input must be UTF-8" in capsys.readouterr().err
