"""Options that the commands share, and the schedules and zones that their arguments name."""

from collections.abc import Sequence
from typing import Annotated
from zoneinfo import ZoneInfo

import typer

from taskbell.errors import Mistake
from taskbell.settings import load
from taskbell.spelling import did_you_mean
from taskbell.zones import zone_named
from taskbell_scheduler.schedule_file import read_schedules
from taskbell_scheduler.schedules import Schedule
from taskbell_scheduler.settings import ScheduleFile

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def all_schedules() -> tuple[ScheduleFile, Sequence[Schedule]]:
    """The settings, and the schedules of the file that they name.

    Raises:
        SettingsError: a setting is wrong, or the file has mistakes.
    """
    settings = load(ScheduleFile)
    return settings, read_schedules(settings.schedules_file, default_zone=settings.timezone)


def named(schedules: Sequence[Schedule], name: str) -> Schedule:
    """The schedule with that name.

    Raises:
        Mistake: there is no such schedule.
    """
    by_name = {schedule.name: schedule for schedule in schedules}
    if name not in by_name:
        hint = did_you_mean(name, by_name) or "."
        msg = f"unknown schedule {name!r}{hint} `taskbell schedules list` lists all"
        raise Mistake(msg)
    return by_name[name]


def known_zone(name: str) -> ZoneInfo:
    """The zone with that name.

    Raises:
        Mistake: there is no such zone.
    """
    try:
        return zone_named(name)
    except ValueError as error:
        raise Mistake(str(error)) from None
