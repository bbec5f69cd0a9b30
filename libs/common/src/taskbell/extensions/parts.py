"""The parts of an extension: what a package can add to Taskbell."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from taskbell.contracts import Contract, Message
from taskbell.contracts.message import queue_of
from taskbell.kinds import Kind

OURS = "taskbell"
"""The owner of every name that does not belong to an installed package."""

SERVICES = ("scheduler", "notifier", "maintenance")
USERS = ("app", "operator")
"""Roles that are not services: the web app, and a person at the command line."""

PRIVILEGE = re.compile(
    r"(?P<verb>SELECT|INSERT|UPDATE)( \((?P<columns>[a-z_][a-z0-9_]*(, [a-z_][a-z0-9_]*)*)\))?\Z|DELETE\Z"
)


class Privilege(NamedTuple):
    """The verb and the columns of one privilege."""

    verb: str
    columns: tuple[str, ...]
    """Empty: all columns."""


@dataclass(frozen=True, slots=True)
class Grant:
    """The privileges of a role on a table."""

    role: str
    """notifier, maintenance, scheduler, operator (the command line), or one of the package's own services."""
    table: str
    """`app.teams`: `app.` stands for the web app's schema; `timesheets.entry` is in a schema of the package."""
    privileges: tuple[str, ...]
    """SELECT, INSERT, UPDATE and DELETE; `SELECT (id, name)` for some columns, also for INSERT and UPDATE."""

    @property
    def taken_apart(self) -> tuple[Privilege, ...]:
        """The verb and the columns of each privilege.

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
    """A queue of the package's own service for an event of the catalogue, such as one of ours."""

    consumer: str
    """A service of the package."""
    routing_key: str

    @property
    def queue(self) -> str:
        """The queue, named `service.event`."""
        return queue_of(self.consumer, self.routing_key)


@dataclass(frozen=True, slots=True)
class Handler:
    """Handles one of the package's messages in the maintenance service.

    Attributes:
        contract: the contract of one of the package's messages whose consumer is maintenance.
        handle: is given a HandlerTransaction and the messages of a set (`Received`), and returns an Outcome for each
            command in order, or nothing for events. What it writes is committed with the outcomes. It raises Never for
            a message that can never take effect; after any other error the message is tried again after 10 s, 1 min and
            10 min.
        batch: the largest number of waiting messages that are handled together.
    """

    contract: type[Contract]
    handle: Callable[[Any, list[Any]], Awaitable[Any]]
    batch: int = 1


@dataclass(frozen=True, slots=True)
class Extension:
    """Everything that a package adds to Taskbell."""

    messages: tuple[Message, ...] = ()
    kinds: tuple[Kind, ...] = ()
    handlers: tuple[Handler, ...] = ()
    listens: tuple[Listen, ...] = ()
    grants: tuple[Grant, ...] = ()


@dataclass(frozen=True, slots=True)
class Installed:
    """An extension, and the package that offers it."""

    package: str
    extension: Extension
    version: str = ""

    @property
    def services(self) -> tuple[str, ...]:
        """The names of the package's own services: all consumers that it names and that are not ours."""
        named = [*(it.consumer for it in self.extension.messages), *(it.consumer for it in self.extension.listens)]
        return tuple(dict.fromkeys(it for it in named if it is not None and it not in SERVICES))
