"""IANA time zones as every service reads them: those that `zoneinfo` knows, without those that depend on the machine.

The rules come from the package tzdata, which is pinned: machines have different versions installed, and two services
that disagree about a clock change would fire or mail at different times. Only a zone that tzdata does not have yet is
looked up on the machine.
"""

from collections.abc import Iterable
from functools import lru_cache
from importlib.resources import files
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from taskbell.spelling import did_you_mean, shortened

_NOT_ZONES = frozenset({"localtime", "Factory", "posixrules"})
_NOT_PREFIXES = ("posix/", "right/")


@lru_cache(maxsize=4096)
def resolve_zone(name: str | None) -> ZoneInfo | None:
    """The zone of that IANA name, or None if there is no such zone.

    `localtime`, `Factory` and the `posix/` and `right/` copies do not count as zones: what they mean depends on the
    machine. The name must be spelled as in the IANA database.
    """
    if not name or name in _NOT_ZONES or name.startswith(_NOT_PREFIXES):
        return None
    if name in _pinned():
        with files("tzdata.zoneinfo").joinpath(*name.split("/")).open("rb") as rules:
            return ZoneInfo.from_file(rules, key=name)
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        # ValueError: a path or a NUL in the name; OSError: a directory such as "Europe", or a name too long.
        return None


def zone_named(name: str, *, or_one_of: Iterable[str] = ()) -> ZoneInfo:
    """The zone of that IANA name.

    Args:
        or_one_of: other words that are allowed in its place; the error's hint may be one of them.

    Raises:
        ValueError: there is no such zone. The text says so, and names one that is near.
    """
    zone = resolve_zone(name)
    if zone is None:
        raise ValueError(_no_zone(name, tuple(or_one_of)))
    return zone


@lru_cache(maxsize=256)
def _no_zone(name: str, others: tuple[str, ...]) -> str:
    hint = did_you_mean(name, (_pinned() - _NOT_ZONES).union(others))
    return f"{shortened(name)} is not an IANA time zone{hint or '; give one such as Europe/Berlin or UTC'}"


@lru_cache(maxsize=1)
def _pinned() -> frozenset[str]:
    return frozenset(files("tzdata").joinpath("zones").read_text(encoding="utf-8").split())
