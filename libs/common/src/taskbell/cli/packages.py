"""Finds what installed packages offer as entry points: groups of commands, and services."""

from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from taskbell.errors import CannotLoad, OfferedTwice

COMMANDS = "taskbell.commands"
SERVICES = "taskbell.services"


@dataclass(frozen=True, slots=True)
class Offer:
    """Something that an installed package offers."""

    entry: EntryPoint
    rivals: tuple[EntryPoint, ...] = ()
    """What other packages offer under the same name."""

    @property
    def package(self) -> str:
        """The name of the distribution that offers it."""
        return _package(self.entry)

    def load(self) -> Any:
        """Imports it.

        Raises:
            OfferedTwice: another package offers the same name.
            CannotLoad: whatever went wrong in that package; the error names the package and the cause.
        """
        if self.rivals:
            packages = " and ".join(sorted(map(_package, (self.entry, *self.rivals))))
            msg = f"packages {packages} both offer {self.entry.name} ({self.entry.group}): remove one of them"
            raise OfferedTwice(msg)
        try:
            return self.entry.load()
        except Exception as error:
            msg = f"{self.entry.name} of {self.package} cannot be loaded: {type(error).__name__}: {error}"
            raise CannotLoad(msg) from error


def offers(group: str) -> dict[str, Offer]:
    """What is offered in that group, by name."""
    found: dict[str, list[EntryPoint]] = {}
    for entry in entry_points(group=group):
        found.setdefault(entry.name, []).append(entry)
    return {name: Offer(first, tuple(others)) for name, (first, *others) in sorted(found.items())}


def _package(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist else "an unknown package"
