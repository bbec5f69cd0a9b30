"""IANA time zones as every service reads them: those that `zoneinfo` knows, without those that depend on the machine.

The rules come from the package tzdata, which is pinned: machines have different versions installed, and two services
that disagree about a clock change would fire or mail at different times. Only a zone that tzdata does not have yet is
looked up on the machine.
"""

from functools import lru_cache
from importlib.resources import files
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

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


@lru_cache(maxsize=1)
def _pinned() -> frozenset[str]:
    return frozenset(files("tzdata").joinpath("zones").read_text(encoding="utf-8").split())
