"""`taskbell schedules`: the commands that need the database or the broker."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from tests.integration.scheduler.conftest import SchedulerHarness, entry
from tests.support.management import Management

from taskbell.cli import main

Command = Callable[..., Awaitable[str]]

FILE = entry("hourly", "0 * * * *", timezone="recipient", catch_up="1h") + entry(
    "report", "0 7 * * *", "maintenance.generate_task_report"
).replace('catch_up = "6h"', "payload = { date = 2026-01-01 }")


def exit_status(arguments: list[str]) -> int:
    """How the command `taskbell` ends."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return int(ended.value.code or 0)


@pytest.fixture
def command(
    harness: SchedulerHarness,
    broker_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Command:
    """Runs `taskbell schedules …` and returns what it says; `status` is the exit status that is expected."""
    (tmp_path / "schedules.toml").write_text(FILE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABASE_URL", harness.url)
    monkeypatch.setenv("BROKER_URL", broker_url)
    monkeypatch.setenv("SCHEDULES_FILE", str(tmp_path / "schedules.toml"))

    async def run_it(*arguments: str, status: int = 0) -> str:
        capsys.readouterr()
        # In a thread: the commands have an event loop of their own.
        ended = await asyncio.to_thread(exit_status, ["schedules", *arguments])
        said = capsys.readouterr()
        assert ended == status, said.err
        return said.err if status else said.out

    return run_it


async def test_pause_history_and_resume(harness: SchedulerHarness, command: Command) -> None:
    await harness.add_user("Asia/Tokyo")
    await harness.at("2026-11-20T07:30")
    scheduler = harness.scheduler(FILE)
    await harness.turn(scheduler)
    assert await command("pause", "hourly", "--note", "mail server moves") == "hourly is paused in all zones.\n"
    await harness.at("2026-11-20T08:00")
    await harness.turn(scheduler)
    (row,) = json.loads(await command("history", "hourly", "--json"))
    assert (row["zone"], row["key"], row["status"]) == ("Asia/Tokyo", "2026-11-20T08:00:00Z", "paused")
    assert row["at"] == "2026-11-20T08:00:00Z"
    assert "paused: mail server moves" in await command("history", "hourly")
    assert "all zones" in await command("status", "hourly")
    assert await command("resume", "hourly") == "hourly runs again: all zones.\n"
    await harness.turn(scheduler)
    await harness.at("2026-11-20T09:00")
    await harness.turn(scheduler)
    newest, _ = json.loads(await command("history", "hourly", "--json"))
    assert newest["status"] == "published"
    assert newest["message_id"] in await command("history", "hourly")
    assert await command("resume", "hourly") == "hourly was not paused.\n"


async def test_a_single_zone(harness: SchedulerHarness, command: Command) -> None:
    await harness.add_user("Asia/Tokyo")
    await harness.turn(harness.scheduler(FILE))
    assert await command("pause", "hourly", "--zone", "Asia/Tokyo") == "hourly is paused in Asia/Tokyo.\n"
    (row,) = [row for row in json.loads(await command("status", "hourly", "--json")) if row["paused"]]
    assert row["zone"] == "Asia/Tokyo"
    await command("pause", "hourly")
    assert "without --zone" in await command("resume", "hourly", "--zone", "Asia/Tokyo", status=2)
    assert await command("resume", "hourly") == "hourly runs again: all zones, Asia/Tokyo.\n"


async def test_names_and_zones_are_checked(command: Command) -> None:
    assert "did you mean 'hourly'?" in await command("pause", "hourli", status=2)
    assert "did you mean 'hourly'?" in await command("status", "hourli", status=2)
    assert "is not an IANA time zone" in await command("history", "hourly", "--zone", "Europe/Berln", status=2)
    assert "no schedule 'hourli' is recorded" in await command("resume", "hourli", status=2)
    assert "is not an IANA time zone" in await command("pause", "hourly", "--zone", "Mars/Base", status=2)
    assert "runs only in UTC, not in Asia/Tokyo" in await command("pause", "report", "--zone", "Asia/Tokyo", status=2)
    assert "No occurrence of hourly is recorded" in await command("history", "hourly")


async def test_run_publishes_by_hand(command: Command, management: Management) -> None:
    said = await command("run", "hourly", "--zone", "Asia/Tokyo")
    (event,) = await management.take("notifier.reminder_due")
    assert event.json() == {"timezone": "Asia/Tokyo"}
    assert event.properties["message_id"] in said
    assert event.properties["delivery_mode"] == 2
    await command("run", "report")
    (message,) = await management.take("maintenance.generate_task_report")
    assert message.json() == {"date": "2026-01-01"}
    assert "has no field timezone" in await command("run", "report", "--zone", "UTC", status=2)


async def test_run_says_when_nobody_would_get_it(command: Command, management: Management) -> None:
    await management.call("DELETE", "/queues/{vhost}/notifier.reminder_due")
    assert "no queue is bound for 'reminder.due'" in await command("run", "hourly", status=1)


async def test_without_a_database_it_says_so(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/nothing")
    assert "PostgreSQL" in await command("history", "hourly", status=1)
    monkeypatch.delenv("DATABASE_URL")
    assert "DATABASE_URL is not set" in await command("history", "hourly", status=2)


async def test_before_setup_the_remedy_is_told(harness: SchedulerHarness, command: Command) -> None:
    await harness.sql("DROP SCHEMA taskbell CASCADE")
    assert "run `taskbell setup`" in await command("status", status=2)
