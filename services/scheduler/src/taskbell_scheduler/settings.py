"""Settings of the scheduler and of the commands that look at its schedules."""

from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field

from taskbell.settings import CommonSettings, Environment, Zone

OptionalPath = Annotated[Path | None, BeforeValidator(lambda value: None if value == "" else value)]
"""A file; empty means not set."""


class ScheduleFile(Environment):
    """What must be known to read the schedules: enough for commands that need no server."""

    timezone: Zone = Field(default="UTC", description="Zone of people and schedules that name none")
    schedules_file: OptionalPath = Field(default=None, description="Replaces the shipped schedules.toml")


class SchedulerSettings(ScheduleFile, CommonSettings):
    """What the scheduler needs to know."""
