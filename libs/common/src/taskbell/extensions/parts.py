"""What a package adds to Taskbell, part by part."""

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from taskbell.contracts import Contract, Message
from taskbell.contracts.message import queue_of
from taskbell.kinds import Kind

OURS = "taskbell"
"""The owner of every name that is not an installed package's."""

SERVICES = ("scheduler", "notifier", "maintenance")
USERS = ("app", "operator")
"""Roles that are not services: the web app, and a person at the command line."""

PRIVILEGE = re.compile(
    r"(?P<verb>SELECT|INSERT|UPDATE)( \((?P<columns>[a-z_][a-z0-9_]*(, [a-z_][a-z0-9_]*)*)\))?\Z|DELETE\Z"
)


class Privilege(NamedTuple):
    """One privilege, taken apart."""

    verb: str
    columns: tuple[str, ...]
    """Empty: the whole table."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What a role may do with a table."""

    role: str
    """notifier, maintenance, scheduler, operator (the command line), or a service of the package's own."""
    table: str
    """`app.teams`: `app.` stands for the web app's schema; `timesheets.entry` names a schema of the package's own."""
    privileges: tuple[str, ...]
    """SELECT, INSERT, UPDATE and DELETE; `SELECT (id, name)` for some columns, INSERT and UPDATE likewise."""

    @property
    def taken_apart(self) -> tuple[Privilege, ...]:
        """Each privilege with its columns.

        Raises:
            ValueError: one of them is not a privilege.
        """
        return tuple(map(_privilege, self.privileges))


def _privilege(written: str) -> Privilege:
    found = PRIVILEGE.match(written)
    if found is None:
        msg = f"{written!r} is not a privilege"
        raise ValueError(msg)
    columns = found["columns"]
    return Privilege(found["verb"] or "DELETE", tuple(columns.split(", ")) if columns else ())


@dataclass(frozen=True, slots=True)
class Listen:
    """A queue of its own for an event of the catalogue, such as one of ours."""

    consumer: str
    """The package's own service."""
    routing_key: str

    @property
    def queue(self) -> str:
        """Its queue, named `service.event`."""
        return queue_of(self.consumer, self.routing_key)


@dataclass(frozen=True, slots=True)
class Handler:
    """What maintenance does about one of the package's messages.

    Attributes:
        contract: of a row of the package's whose consumer is maintenance.
        handle: given a HandlerTransaction and the messages of a set (`Received`); returns an Outcome for each command
            in their order, and nothing for events. What it writes is committed with the outcomes. Raise Never for a
            message that can never take effect; any other error is tried again after 10 s, 1 min and 10 min.
        batch: at most so many messages that wait together are handled together.
    """

    contract: type[Contract]
    handle: Callable[[Any, Sequence[Any]], Awaitable[Any]]
    batch: int = 1


@dataclass(frozen=True, slots=True)
class Extension:
    """All that a package adds."""

    messages: tuple[Message, ...] = ()
    kinds: tuple[Kind, ...] = ()
    handlers: tuple[Handler, ...] = ()
    listens: tuple[Listen, ...] = ()
    grants: tuple[Grant, ...] = ()


@dataclass(frozen=True, slots=True)
class Installed:
    """An extension, and the distribution that brings it."""

    package: str
    extension: Extension
    version: str = ""

    @property
    def services(self) -> tuple[str, ...]:
        """The consumers that it brings, which are services of its own."""
        named = [*(it.consumer for it in self.extension.messages), *(it.consumer for it in self.extension.listens)]
        return tuple(dict.fromkeys(it for it in named if it is not None and it not in SERVICES))
