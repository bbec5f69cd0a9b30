"""Checks each field of a `[[schedule]]`: every function returns the value, or raises ValueError with the reason."""

import math
import re
from datetime import date, time, timedelta
from types import MappingProxyType
from typing import Any
from zoneinfo import ZoneInfo

from taskbell.catalogue import catalogue
from taskbell.spelling import did_you_mean, shortened
from taskbell.zones import zone_named

UNIVERSAL = frozenset({"UTC", "UCT", "GMT", "GMT0", "GMT+0", "GMT-0", "Universal", "Zulu", "Greenwich"})
"""Names of UTC, some of them with Etc/ before them. Nobody lives there."""

DEEPEST = 20
"""Tables and lists inside each other that a payload may have."""

RECIPIENT = "recipient"
"""The timezone of a schedule that runs at its local time in every zone that an active user has."""

LONGEST_CATCH_UP = timedelta(days=60)
"""Well below the 90 days for which occurrences are kept, so that none is caught up with after it was forgotten."""

_LONGEST_DESCRIPTION = 300
_OF_A_PACKAGE = "If a package brings it, install that package beside the scheduler, or take the schedule out"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_DURATION = re.compile(r"(\d{1,9})([smhd])", re.ASCII)
_LOOSE_DURATION = re.compile(r"(\d{1,9})\s*([smhdw])[a-z]*", re.ASCII | re.IGNORECASE)
_UNITS = MappingProxyType({"s": "seconds", "m": "minutes", "h": "hours", "d": "days"})
_KINDS = MappingProxyType(
    {bool: "true or false", int: "a number", float: "a number", dict: "a table", list: "a list", str: "a text"}
)


def text(value: object) -> str:
    """Any text."""
    if not isinstance(value, str):
        raise ValueError(f"must be a text in quotes, not {_kind(value)}")  # noqa: TRY004
    return value


def name(value: object) -> str:
    """A schedule's name, as commands, logs and metrics show it."""
    given = text(value)
    if not _NAME.fullmatch(given):
        raise ValueError(
            f"{shortened(given)} must be 1 to 64 letters, digits, '.', '_' or '-', beginning with a letter or digit"
        )
    return given


def description(value: object) -> str:
    """A sentence for people."""
    given = text(value)
    if len(given) > _LONGEST_DESCRIPTION:
        raise ValueError(f"is longer than {_LONGEST_DESCRIPTION} characters")
    return given


def zone(value: object) -> ZoneInfo | None:
    """An IANA zone, or None for `recipient`."""
    given = text(value)
    if given == RECIPIENT:
        return None
    return zone_named(given, or_one_of=[RECIPIENT])


def routing_key(value: object) -> str:
    """A message of the catalogue."""
    given = text(value)
    known = catalogue()
    if given not in known:
        near = did_you_mean(given, known) or "."
        raise ValueError(f"{shortened(given)} is not a message{near} {_OF_A_PACKAGE}")
    return given


def table(value: object) -> dict[str, Any]:
    """A table, with values that JSON can express."""
    if not isinstance(value, dict):
        raise ValueError(f"must be a table such as {{ force = true }}, not {_kind(value)}")  # noqa: TRY004
    plain: dict[str, Any] = _plain(value)
    return plain


def duration(value: object) -> timedelta:
    """A whole number and a unit: `90s`, `15m`, `6h`, `2d`."""
    given = f"{value}s" if type(value) is int else text(value)
    found = _DURATION.fullmatch(given) if isinstance(value, str) else None
    if not found:
        raise ValueError(f"{value!r} is not a duration: write a whole number and s, m, h or d{_duration_like(given)}")
    length = timedelta(**{_UNITS[found[2]]: int(found[1])})
    if length > LONGEST_CATCH_UP:
        raise ValueError(f"{value!r} is longer than {LONGEST_CATCH_UP.days}d, the most that is allowed")
    return length


def _duration_like(given: str) -> str:
    found = _LOOSE_DURATION.fullmatch(given.strip())
    if not found:
        return ""
    unit = found[2].lower()
    meant = f"{int(found[1]) * 7}d" if unit == "w" else f"{int(found[1])}{unit}"
    return f"; did you mean {meant!r}?"


def _kind(value: object) -> str:
    return _KINDS.get(type(value), "a date or time")


def _plain(value: Any, depth: int = 0) -> Any:
    """A TOML value as JSON expresses it: dates and times become texts."""
    if depth > DEEPEST:
        raise ValueError(f"is nested more than {DEEPEST} deep")
    if isinstance(value, dict):
        return {_plain(key): _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item, depth + 1) for item in value]
    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} cannot be sent: JSON has no such number")
    if isinstance(value, str) and "\x00" in value:
        raise ValueError("a text must not contain the character U+0000: PostgreSQL cannot store it")
    return value
