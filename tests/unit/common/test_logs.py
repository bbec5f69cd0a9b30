"""What a process writes to its log."""

import json
import logging
from collections.abc import Iterator
from typing import Any, Literal

import pytest
import structlog

from taskbell.logs import configure, logger

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _logging_is_as_before() -> Iterator[None]:
    handlers = logging.getLogger().handlers[:]
    yield
    logging.getLogger().handlers[:] = handlers
    structlog.reset_defaults()


def lines(capsys: Capture) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_a_line_is_json_with_its_event_level_time_and_service(capsys: Capture) -> None:
    configure("INFO", "json", service="notifier")
    logger("relay").info("outbox.stuck", rows=3)
    (line,) = lines(capsys)
    assert str(line.pop("timestamp")).endswith("Z")
    assert line == {"event": "outbox.stuck", "level": "info", "rows": 3, "service": "notifier"}


def test_below_the_level_nothing_is_written(capsys: Capture) -> None:
    configure("WARNING", "json", service="notifier")
    logger("relay").info("quiet")
    logger("relay").warning("loud")
    assert [line["event"] for line in lines(capsys)] == ["loud"]


def test_libraries_speak_in_the_same_form_from_warnings_on(capsys: Capture) -> None:
    configure("INFO", "json", service="notifier")
    logging.getLogger("asyncio").info("quiet")
    logging.getLogger("asyncio").warning("slow callback")
    (line,) = lines(capsys)
    assert (line["event"], line["logger"], line["service"]) == ("slow callback", "asyncio", "notifier")


def test_a_traceback_holds_neither_local_variables_nor_what_follows_an_errors_first_line(capsys: Capture) -> None:
    configure("INFO", "json", service="notifier")

    def fail() -> None:
        address = "ann@example.org"
        raise ValueError(f"duplicate key\nDETAIL:  Key (address)=({address}) already exists.")

    try:
        fail()
    except ValueError as error:
        error.add_note("bob@example.org")
        logger("dispatcher").error("message.retried", exc_info=error)
    (line,) = lines(capsys)
    assert "example.org" not in str(line)
    assert line["exception"][0]["exc_value"] == "duplicate key"
    assert line["exception"][0]["frames"][-1]["name"] == "fail"


@pytest.mark.parametrize("form", ["json", "console"])
def test_no_form_of_an_error_shows_what_follows_the_first_line(
    capsys: Capture, form: Literal["json", "console"]
) -> None:
    configure("INFO", form, service="notifier")

    def secret(words: str) -> ValueError:
        return ValueError(f"{words}\nDETAIL:  Failing row contains ({words}@example.org).")

    try:
        try:
            raise secret("cause")
        except ValueError as cause:
            raise ExceptionGroup(
                "several\nno@example.org", [secret("one"), ExceptionGroup("more", [secret("two")])]
            ) from cause
    except ExceptionGroup as error:
        error.exceptions[0].add_note("note@example.org")
        logger("dispatcher").error("message.retried", exc_info=error)
    written = capsys.readouterr().err
    assert "example.org" not in written
    for word in ("cause", "several", "one", "more", "two", "ValueError", "test_no_form_of_an_error"):
        assert word in written


def test_on_a_console_it_is_for_reading(capsys: Capture) -> None:
    configure("INFO", "console", service="notifier")
    logger("relay").info("outbox.stuck", rows=3)
    written = capsys.readouterr().err
    assert "outbox.stuck" in written
    assert "rows=3" in written
