"""`taskbell schedules list|check|next`: no server is needed."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.support.cron_oracle import by_cronsim, clock_changes, rules

from taskbell.cli import main

FILE = """
[[schedule]]
name = "reminders"
cron = "30 2 * * *"
timezone = "recipient"
publish = "reminder.due"

[[schedule]]
name = "report"
cron = "0 */6 * * *"
timezone = "Asia/Kolkata"
publish = "maintenance.generate_task_report"
catch_up = "90m"
description = "What happened"
"""


def exit_status(arguments: list[str]) -> int:
    """How the command `taskbell` ends."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return int(ended.value.code or 0)


@dataclass(frozen=True)
class Result:
    """How a command ended, and what it said."""

    exit_code: int
    stdout: str
    stderr: str


Command = Callable[..., Result]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs `taskbell schedules …` with FILE as its schedules, in an otherwise empty environment."""
    (tmp_path / "mine.toml").write_text(FILE)
    monkeypatch.chdir(tmp_path)
    for variable in ("DATABASE_URL", "BROKER_URL"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("TIMEZONE", "Europe/Berlin")
    monkeypatch.setenv("SCHEDULES_FILE", "mine.toml")

    def run_it(*arguments: str) -> Result:
        status = exit_status(["schedules", *arguments])
        said = capsys.readouterr()
        return Result(status, said.out, said.err)

    return run_it


def upcoming(command: Command, *arguments: str) -> list[dict[str, str]]:
    result = command("next", *arguments, "--json")
    assert result.exit_code == 0, result.stderr
    shown: list[dict[str, str]] = json.loads(result.stdout)
    return shown


def test_list_shows_each_schedule_in_words(command: Command) -> None:
    shown = {row["name"]: row for row in json.loads(command("list", "--json").stdout)}
    assert shown["reminders"]["when"] == "At 02:30"
    assert shown["reminders"]["timezone"] == "recipient"
    assert shown["report"] | {"next": None} == {
        "name": "report",
        "when": "At 00:00, 06:00, 12:00 and 18:00",
        "cron": "0 */6 * * *",
        "timezone": "Asia/Kolkata",
        "publish": "maintenance.generate_task_report",
        "catch_up": "90m",
        "next": None,
        "description": "What happened",
    }
    assert datetime.fromisoformat(shown["report"]["next"]) > datetime.now(UTC)
    table = command("list").stdout
    assert "At 02:30" in table
    assert "Asia/Kolkata" in table


def test_without_a_file_of_ones_own_it_is_the_shipped_one(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SCHEDULES_FILE")
    assert "weekly-summary" in command("list").stdout


def test_check_names_every_mistake_and_fails(command: Command, tmp_path: Path) -> None:
    assert command("check") == Result(0, "2 schedules, no mistakes\n", "")
    (tmp_path / "bad.toml").write_text(FILE.replace("*/6", "25").replace("90m", "90 minutes"))
    result = command("check", "bad.toml")
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        "bad.toml has 2 mistakes:",
        '  line 8: schedule "report": cron: hour: 25 is out of range, 0 to 23',
        "  line 8: schedule \"report\": catch_up: '90 minutes' is not a duration: write a whole number"
        " and s, m, h or d; did you mean '90m'?",
    ]


def test_check_tells_warnings_and_succeeds(command: Command, tmp_path: Path) -> None:
    (tmp_path / "doubtful.toml").write_text(FILE.replace("*/6", "*/7"))
    result = command("check", "doubtful.toml")
    assert (result.exit_code, result.stdout) == (0, "2 schedules, no mistakes\n")
    assert result.stderr.splitlines() == [
        "1 warning:",
        "  line 8: schedule \"report\": cron: hour: '*/7' means 0, 7, 14, 21, and begins anew after 23: "
        "7 does not divide 24",
    ]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"\xff\xfe", "line 1: is not UTF-8; save the file as UTF-8"),
    ],
)
def test_a_file_that_cannot_be_read(command: Command, tmp_path: Path, content: bytes | None, expected: str) -> None:
    if content is not None:
        (tmp_path / "bad.toml").write_bytes(content)
    result = command("check", "bad.toml")
    assert result.exit_code == 1
    assert expected in result.stderr


def test_next_takes_local_times_and_includes_its_start(command: Command) -> None:
    assert upcoming(command, "reminders", "--from", "2026-10-24T02:30", "--count", "2") == [
        {
            "schedule": "reminders",
            "zone": "Europe/Berlin",
            "at": "2026-10-24T00:30:00Z",
            "local": "2026-10-24T02:30:00+02:00",
        },
        {
            "schedule": "reminders",
            "zone": "Europe/Berlin",
            "at": "2026-10-25T00:30:00Z",
            "local": "2026-10-25T02:30:00+02:00",
        },
    ]


@pytest.mark.parametrize(
    ("arguments", "first"),
    [
        (("reminders", "--from", "2026-10-24T02:31"), "2026-10-25T00:30:00Z"),
        (("reminders", "--from", "2026-10-24"), "2026-10-24T00:30:00Z"),
        (("reminders", "--from", "2026-10-24T00:30Z"), "2026-10-24T00:30:00Z"),
        (("reminders", "--from", "2026-10-24T00:30:00.000001Z"), "2026-10-25T00:30:00Z"),
        (("reminders", "--from", "2026-10-23T20:30-04:00"), "2026-10-24T00:30:00Z"),
        (("reminders", "--from", "2026-10-25T02:30"), "2026-10-25T00:30:00Z"),  # the first of two
        (("reminders", "--from", "2026-03-29T02:45"), "2026-03-29T01:00:00Z"),  # in the gap that 2:30 is in, too
        (("reminders", "--from", "2026-10-24", "--zone", "Asia/Tokyo"), "2026-10-23T17:30:00Z"),
        (("report", "--from", "2026-10-24T06:00"), "2026-10-24T00:30:00Z"),
        (("report", "--from", "2026-10-24T06:00", "--zone", "UTC"), "2026-10-24T06:00:00Z"),
    ],
)
def test_where_next_begins(command: Command, arguments: tuple[str, ...], first: str) -> None:
    assert upcoming(command, *arguments)[0]["at"] == first


ZONES = [
    *("Africa/Cairo", "Africa/Casablanca", "Africa/El_Aaiun", "America/Asuncion", "America/Chicago", "America/Havana"),
    *("America/Los_Angeles", "America/Miquelon", "America/New_York", "America/Nuuk", "America/Santiago"),
    *("America/Scoresbysund", "America/St_Johns", "America/Vancouver", "Antarctica/Troll", "Asia/Beirut", "Asia/Gaza"),
    *("Asia/Jerusalem", "Asia/Kolkata", "Atlantic/Azores", "Australia/Adelaide", "Australia/Lord_Howe"),
    *("Australia/Sydney", "Europe/Berlin", "Europe/Chisinau", "Europe/Dublin", "Europe/London", "Pacific/Auckland"),
    *("Pacific/Chatham", "Pacific/Norfolk"),
]


@pytest.mark.parametrize("zone", ZONES)
def test_next_is_right_over_every_clock_change_of_2026(command: Command, zone: str) -> None:
    place = rules(zone)
    for change in clock_changes(place, 2026, 2026) or [datetime(2026, 6, 1, tzinfo=UTC)]:
        start = (change - timedelta(days=2)).astimezone(place).replace(hour=0, minute=0, tzinfo=None)
        shown = upcoming(command, "reminders", "--zone", zone, "--from", start.isoformat(), "--count", "5")
        first = start.replace(tzinfo=place).astimezone(UTC) - timedelta(seconds=1)
        expected = by_cronsim("30 2 * * *", place, first, first + timedelta(days=8))[:5]
        assert [datetime.fromisoformat(row["at"]) for row in shown] == expected
        assert [datetime.fromisoformat(row["local"]) for row in shown] == expected
        assert {row["zone"] for row in shown} == {zone}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("reminder",), "unknown schedule 'reminder'; did you mean 'reminders'?"),
        (("reminders", "--zone", "Mars/Base"), "'Mars/Base' is not an IANA time zone"),
        (("reminders", "--from", "tomorrow"), "--from 'tomorrow' is not a date and time"),
        (("reminders", "--from", "0001-01-01T00:00+14:00"), "--from '0001-01-01T00:00+14:00'"),
        (("reminders", "--from", "9999-12-31"), "is out of range"),
    ],
)
def test_what_next_refuses(command: Command, arguments: tuple[str, ...], expected: str) -> None:
    result = command("next", *arguments)
    assert result.exit_code == 2
    assert expected in result.stderr
    assert result.stdout == ""


def test_other_commands_refuse_a_file_with_mistakes_too(command: Command, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(FILE.replace("90m", "90 minutes"))
    for arguments in (("list",), ("next", "report")):
        result = command(*arguments)
        assert (result.exit_code, result.stdout) == (2, "")
        assert "mine.toml has 1 mistake" in result.stderr


def test_a_wrong_timezone_setting_is_named(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIMEZONE", "Mars/Base")
    result = command("list")
    assert result.exit_code == 2
    assert "TIMEZONE: 'Mars/Base' is not an IANA time zone" in result.stderr
