"""Settings of the scheduler, and of the commands that read its schedules."""

from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field

from taskbell.settings import CommonSettings, Environment, Zone

OptionalPath = Annotated[Path | None, BeforeValidator(lambda value: None if value == "" else value)]
"""A file; empty means not set."""


class ScheduleFile(Environment):
    """The settings needed to read the schedules. Commands that use no server need no others."""

    timezone: Zone = Field(default="UTC", description="Time zone of people and schedules that have none of their own")
    schedules_file: OptionalPath = Field(
        default=None, description="Path of a file that replaces the shipped schedules.toml"
    )


class SchedulerSettings(ScheduleFile, CommonSettings):
    """The settings of the scheduler."""
