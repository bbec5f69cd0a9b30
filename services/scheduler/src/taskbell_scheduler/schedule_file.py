"""Reads the schedules file: the one that SCHEDULES_FILE names, or the shipped one."""

from importlib.resources import files
from pathlib import Path

from taskbell_scheduler.schedules import FileRemark, Schedule, SchedulesError, parse_schedules

SHIPPED = "schedules.toml"


def read_schedules(path: Path | None, *, default_zone: str) -> tuple[Schedule, ...]:
    """The schedules of that file; None: the shipped ones.

    Raises:
        SchedulesError: the file cannot be read, or has mistakes. The error lists all of them.
    """
    if path is None:
        text = files("taskbell_scheduler").joinpath(SHIPPED).read_text(encoding="utf-8")
        return parse_schedules(text, origin=f"{SHIPPED} (shipped)", default_zone=default_zone)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        reason = f"cannot be read: {error.strerror or type(error).__name__}"
        raise SchedulesError(str(path), [FileRemark(None, "", "", reason)]) from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise SchedulesError(str(path), [FileRemark(line, "", "", "is not UTF-8; save the file as UTF-8")]) from None
    return parse_schedules(text, origin=str(path), default_zone=default_zone)
