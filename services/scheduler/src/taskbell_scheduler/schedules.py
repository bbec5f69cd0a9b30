"""Reads the schedules of a `schedules.toml`, and reports every mistake in it before anything starts."""

import dataclasses
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any
from zoneinfo import ZoneInfo

from taskbell.errors import SettingsError
from taskbell.spelling import did_you_mean
from taskbell_scheduler import fields, payloads, toml_lines
from taskbell_scheduler.cron import Cron, parse_cron

DEFAULT_CATCH_UP = timedelta(hours=1)

_Remark = tuple[str, str]
"""A field, and what is to be said of it."""

_CHECKS: Mapping[str, Callable[[object], Any]] = MappingProxyType(
    {
        "name": fields.name,
        "cron": lambda value: parse_cron(fields.text(value)),
        "timezone": fields.zone,
        "publish": fields.routing_key,
        "payload": fields.table,
        "catch_up": fields.duration,
        "description": fields.description,
    }
)
_REQUIRED = ("name", "cron", "publish")


@dataclass(frozen=True)
class Schedule:
    """One entry of the file: when and in which zone to publish what."""

    name: str
    cron: Cron
    zone: ZoneInfo | None
    """None: `recipient`, that is once in every zone that an active user has."""
    publish: str
    """A routing key of the catalogue."""
    payload: Mapping[str, Any]
    catch_up: timedelta = DEFAULT_CATCH_UP
    """How late the newest occurrence may still be published."""
    description: str = ""
    warnings: tuple["FileRemark", ...] = dataclasses.field(default=(), compare=False)
    """What it does that its writer may not mean."""

    def body(self, at: datetime, zone: str) -> dict[str, Any]:
        """The message body of an occurrence, with time and zone if its contract has fields for them."""
        return payloads.with_occurrence(self.publish, self.payload, at, zone)


@dataclass(frozen=True)
class FileRemark:
    """One mistake in a schedules file, or one warning."""

    line: int | None
    """The line of the entry's `[[schedule]]`, counted from 1."""
    entry: str
    """`"reminders"`, or `#3` for the third entry if it has no name; empty: the file as a whole."""
    field: str
    """Empty: the entry as a whole."""
    reason: str

    def __str__(self) -> str:
        place = [f"line {self.line}"] if self.line else []
        entry = [f"schedule {self.entry}"] if self.entry else []
        return ": ".join([*place, *entry, *([self.field] if self.field else []), self.reason])


class SchedulesError(SettingsError):
    """A schedules file has mistakes; none of its schedules runs."""

    def __init__(self, origin: str, mistakes: Sequence[FileRemark]) -> None:
        self.mistakes = tuple(mistakes)
        count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        super().__init__("\n".join([f"{origin} has {count}:", *(f"  {mistake}" for mistake in mistakes)]))


def parse_schedules(text: str, *, origin: str, default_zone: str) -> tuple[Schedule, ...]:
    """Checks a whole file and returns its schedules in its order.

    Args:
        text: the file's content.
        origin: the file's name, for messages.
        default_zone: TIMEZONE, for entries without a timezone.

    Raises:
        SchedulesError: the file has mistakes. The error lists every mistake of every entry.
    """
    try:
        document = tomllib.loads(text)
    except RecursionError:
        raise SchedulesError(origin, [FileRemark(None, "", "", "is not read: it is nested too deeply")]) from None
    except tomllib.TOMLDecodeError as error:
        reason = f"is not TOML: {toml_lines.error_reason(error)}"
        raise SchedulesError(origin, [FileRemark(toml_lines.error_line(error, text), "", "", reason)]) from None
    mistakes = [
        FileRemark(toml_lines.key_line(text, key), "", key, "is unknown" + did_you_mean(key, ["schedule"]))
        for key in document
        if key != "schedule"
    ]
    schedules = _read_entries(document.get("schedule", []), text, default_zone, mistakes)
    if not schedules and not mistakes:
        mistakes.append(FileRemark(None, "", "", "has no [[schedule]]: nothing would ever be published"))
    if mistakes:
        raise SchedulesError(origin, mistakes)
    return schedules


def _read_entries(entries: object, text: str, default_zone: str, mistakes: list[FileRemark]) -> tuple[Schedule, ...]:
    first_line = toml_lines.key_line(text, "schedule")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        mistakes.append(FileRemark(first_line, "", "schedule", "must be entries, each below its own [[schedule]]"))
        return ()
    lines = toml_lines.table_lines(text, "schedule")
    schedules = []
    names: dict[str, int | None] = {}
    for index, entry in enumerate(entries):
        line = lines[index] if len(lines) == len(entries) else first_line
        values, reasons, warnings = _read_entry(entry, default_zone)
        given = entry.get("name")
        if isinstance(given, str) and given in names:
            reasons.append(("name", f"is already the name of the entry at line {names[given]}"))
        elif isinstance(given, str):
            names[given] = line
        label = f'"{given}"' if isinstance(given, str) and given else f"#{index + 1}"
        mistakes += [FileRemark(line, label, *it) for it in reasons]
        if not reasons:
            remarks = tuple(FileRemark(line, label, *it) for it in warnings)
            schedules.append(Schedule(**values, warnings=remarks))
    return tuple(schedules)


def _read_entry(entry: Mapping[str, Any], default_zone: str) -> tuple[dict[str, Any], list[_Remark], list[_Remark]]:
    """The values of a schedule, its mistakes and its warnings. With mistakes, values are missing."""
    reasons = [(field, "is unknown" + did_you_mean(field, _CHECKS)) for field in entry if field not in _CHECKS]
    reasons += [(field, "is missing") for field in _REQUIRED if field not in entry]
    values: dict[str, Any] = {}
    for field, check in _CHECKS.items():
        given = {"timezone": default_zone, "payload": {}, **entry}
        if field in given:
            try:
                values[field] = check(given[field])
            except ValueError as error:
                reasons.append((field, str(error)))
    if "publish" in values and "payload" in values:
        reasons += [("payload", reason) for reason in payloads.mistakes(values["publish"], values["payload"])]
    recipient = values.get("timezone", ...) is None
    if recipient and "publish" in values and not payloads.takes(values["publish"], "timezone"):
        reasons.append(
            ("timezone", f"{fields.RECIPIENT!r} needs a message with a field timezone; {values['publish']} has none")
        )
    warnings = [] if reasons else [*(("cron", it) for it in values["cron"].warnings), *_of_zone(entry, values)]
    values["zone"] = values.pop("timezone", None)
    return values, reasons, warnings


def _of_zone(entry: Mapping[str, Any], values: Mapping[str, Any]) -> Iterator[_Remark]:
    """A mailing that is due in one zone is for the people of that zone. Who writes UTC, or nothing, means everybody."""
    zone: ZoneInfo | None = values["timezone"]
    if zone is None or not payloads.takes(values["publish"], "timezone"):
        return
    given = "timezone" in entry
    if given and zone.key.removeprefix("Etc/") not in fields.UNIVERSAL:
        return
    why = "" if given else "is not given, so it is TIMEZONE: "
    meant = f"{fields.RECIPIENT!r} mails everybody at their local time"
    yield "timezone", f"{why}this mails only people whose zone is {zone.key}; {meant}"
