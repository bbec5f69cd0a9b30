"""Commands that read only the schedules file, and need no server."""

from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo

import typer

from taskbell.cli.console import print_json, print_table
from taskbell.clock import SystemClock
from taskbell.errors import Mistake
from taskbell.settings import load
from taskbell_scheduler.cli.named import AsJson, all_schedules, known_zone, named
from taskbell_scheduler.fields import RECIPIENT
from taskbell_scheduler.occurrences import EARLIEST, LATEST, local_instant, next_occurrence, occurrences
from taskbell_scheduler.payloads import rfc3339
from taskbell_scheduler.schedule_file import read_schedules
from taskbell_scheduler.schedules import Schedule, SchedulesError
from taskbell_scheduler.settings import ScheduleFile
from taskbell_scheduler.words import in_words

_MOST = 10_000


def list_schedules(as_json: AsJson = False) -> None:
    """List all schedules, in words, each with its next time."""
    settings, schedules = all_schedules()
    now, default_zone = SystemClock().now(), known_zone(settings.timezone)
    listed = [_described(schedule, default_zone, now) for schedule in schedules]
    if as_json:
        print_json(listed)
    else:
        columns = ("name", "when", "timezone", "publish", "catch_up", "next")
        shown = [_localised(row, default_zone) for row in listed]
        print_table(columns, [[row[column] or "never" for column in columns] for row in shown])


def check(
    file: Annotated[Path | None, typer.Argument(help="Default: SCHEDULES_FILE, or the shipped file.")] = None,
) -> None:
    """Check a schedules file; report every mistake, and what may not be meant. The exit status is 1 for a mistake."""
    settings = load(ScheduleFile)
    try:
        schedules = read_schedules(file or settings.schedules_file, default_zone=settings.timezone)
    except SchedulesError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    warnings = [str(it) for schedule in schedules for it in schedule.warnings]
    if warnings:
        count = "1 warning" if len(warnings) == 1 else f"{len(warnings)} warnings"
        typer.echo("\n".join([f"{count}:", *(f"  {it}" for it in warnings)]), err=True)
    print(f"{len(schedules)} schedule{'s' if len(schedules) != 1 else ''}, no mistakes")


def upcoming(
    name: Annotated[str, typer.Argument(help="The name of a schedule.")],
    start: Annotated[
        str | None,
        typer.Option("--from", help="Date and time, ISO 8601; without an offset, local in the zone. Default: now."),
    ] = None,
    count: Annotated[int, typer.Option(min=1, max=_MOST, help="The number of occurrences.")] = 5,
    zone: Annotated[
        str | None, typer.Option(help="Show it in this zone. Default: the schedule's zone, or TIMEZONE.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the next times at which a schedule is due, from now or from --from on."""
    settings, schedules = all_schedules()
    schedule = named(schedules, name)
    place = known_zone(zone) if zone else schedule.zone or known_zone(settings.timezone)
    first = _moment(start, place) if start else SystemClock().now()
    # occurrences() returns only what is later than its position; here the first moment itself counts, too.
    found = islice(occurrences(schedule.cron, place, after=first - timedelta(microseconds=1)), count)
    listed = [
        {
            "schedule": schedule.name,
            "zone": place.key,
            "at": rfc3339(occurrence.at),
            "local": occurrence.at.astimezone(place).isoformat(),
        }
        for occurrence in found
    ]
    if as_json:
        print_json(listed)
    else:
        print_table(("at", "local", "zone"), [(row["at"], row["local"], row["zone"]) for row in listed])


def _described(schedule: Schedule, default_zone: ZoneInfo, now: datetime) -> dict[str, str | None]:
    place = schedule.zone or default_zone
    following = next_occurrence(schedule.cron, place, after=now)
    return {
        "name": schedule.name,
        "when": in_words(schedule.cron),
        "cron": schedule.cron.text,
        "timezone": schedule.zone.key if schedule.zone else RECIPIENT,
        "publish": schedule.publish,
        "catch_up": _span(schedule.catch_up),
        "next": rfc3339(following.at) if following else None,
        "description": schedule.description,
    }


def _localised(row: dict[str, str | None], zone: ZoneInfo) -> dict[str, str | None]:
    """The row for people: a recipient schedule is due at a local time in each recipient's zone, not at one instant."""
    if row["timezone"] != RECIPIENT or row["next"] is None:
        return row
    return row | {"next": f"{datetime.fromisoformat(row['next']).astimezone(zone):%Y-%m-%d %H:%M} local"}


def _moment(text: str, zone: ZoneInfo) -> datetime:
    try:
        given = datetime.fromisoformat(text)
        moment = given.astimezone(UTC) if given.tzinfo else local_instant(given, zone)
    except (ValueError, OverflowError):
        msg = f"--from {text!r} is not a date and time; write 2026-10-24T08:00, or add an offset or Z at its end"
        raise Mistake(msg) from None
    if not EARLIEST <= moment <= LATEST:
        msg = f"--from {text!r} is out of range; give a time from {EARLIEST:%Y-%m-%d} to {LATEST:%Y-%m-%d}"
        raise Mistake(msg)
    return moment


def _span(length: timedelta) -> str:
    """The duration as schedules.toml writes it: `6h`."""
    seconds = int(length.total_seconds())
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds and seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
