"""Finds what installed packages offer as entry points: groups of commands, and services."""

from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from taskbell.errors import TaskbellError

COMMANDS = "taskbell.commands"
SERVICES = "taskbell.services"


class CannotLoad(TaskbellError):
    """An installed package offers something that cannot be loaded."""


@dataclass(frozen=True, slots=True)
class Offer:
    """Something that an installed package offers."""

    entry: EntryPoint

    @property
    def package(self) -> str:
        """The name of the distribution that offers it."""
        return self.entry.dist.name if self.entry.dist else "an unknown package"

    def load(self) -> Any:
        """Imports it.

        Raises:
            CannotLoad: whatever went wrong in that package; the error names the package and the cause.
        """
        try:
            return self.entry.load()
        except Exception as error:
            msg = f"{self.entry.name} of {self.package} cannot be loaded: {type(error).__name__}: {error}"
            raise CannotLoad(msg) from error


def offers(group: str) -> dict[str, Offer]:
    """What is offered in that group, by name."""
    found = {entry.name: Offer(entry) for entry in entry_points(group=group)}
    return dict(sorted(found.items()))
