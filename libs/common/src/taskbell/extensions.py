"""What installed packages add to Taskbell: messages, kinds of mail, handlers, and the rights that these need.

A package offers one `Extension` by the entry point group `taskbell.extensions`. All are loaded once, when the first is
asked for, and checked against ours and against each other: two that claim one name are refused, both named.
"""

import re
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from taskbell.contracts import CATALOGUE, Contract, MailingDue, Message, UserEvent
from taskbell.errors import SettingsError
from taskbell.kinds import AssignedTasks, Kind, NamedTask, Period, Statement

GROUP = "taskbell.extensions"

OURS = "taskbell"
"""The owner of every name that is not an installed package's."""

SERVICES = ("scheduler", "notifier", "maintenance")
USERS = ("app", "operator")
"""Roles that are not services: the web app, and a person at the command line."""

RESERVED_CONSUMERS = frozenset({"scheduler", "app", "operator", "console", "setup", "taskbell"})

_NAME = re.compile(r"[a-z][a-z0-9_]{0,30}\Z")
_KEY = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+\Z")
_TABLE = re.compile(r"[a-z_][a-z0-9_]*\.[a-z_][a-z0-9_]*\Z")
_PRIVILEGES = re.compile(r"(SELECT|INSERT|UPDATE|DELETE)( \([a-z_][a-z0-9_]*(, [a-z_][a-z0-9_]*)*\))?\Z")

KEY_LIMIT = 200
"""Characters of a routing key: with the consumer's name before it, it is a queue's name."""


class ExtensionError(SettingsError):
    """An installed package offers something that cannot be used; names the package and what it offers."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What a role may do with a table."""

    role: str
    """notifier, maintenance, scheduler, or a service of the package's own."""
    table: str
    """`app.teams`: `app.` stands for the web app's schema; `timesheets.entry` names a schema of the package's own."""
    privileges: tuple[str, ...]
    """Each as `SELECT`, or `SELECT (id, name)` for some columns; INSERT, UPDATE and DELETE likewise."""


@dataclass(frozen=True, slots=True)
class Listen:
    """A queue of its own for a message of the catalogue, such as one of our events."""

    consumer: str
    """The package's own service."""
    routing_key: str


@dataclass(frozen=True, slots=True)
class Handler:
    """What maintenance does about one of the package's messages.

    Attributes:
        contract: of a row of the package's whose consumer is maintenance.
        handle: given the open transaction and the messages of a set (`Received`); returns an Outcome for each command
            in their order, and nothing for events. What it writes is committed with the outcomes.
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

    @property
    def services(self) -> tuple[str, ...]:
        """The consumers that it brings, which are services of its own."""
        named = [*(it.consumer for it in self.extension.messages), *(it.consumer for it in self.extension.listens)]
        return tuple(dict.fromkeys(it for it in named if it is not None and it not in SERVICES))


@lru_cache(maxsize=1)
def installed() -> tuple[Installed, ...]:
    """Every installed package's extension, in the order of the packages' names.

    Raises:
        ExtensionError: one cannot be loaded or is wrong, or two claim one name.
    """
    loaded = [_load(entry) for entry in entry_points(group=GROUP)]
    found = tuple(sorted(loaded, key=lambda it: it.package))
    mistakes = list(mistakes_in(found))
    if mistakes:
        raise ExtensionError("\n".join(mistakes))
    return found


def _load(entry: EntryPoint) -> Installed:
    package = entry.dist.name if entry.dist else "an unknown package"
    try:
        extension = entry.load()
    except Exception as error:
        msg = f"the extension {entry.name} of package {package} cannot be loaded: {type(error).__name__}: {error}"
        raise ExtensionError(msg) from error
    if not isinstance(extension, Extension):
        msg = f"{entry.value} of package {package} is not a taskbell.extend.Extension but a {type(extension).__name__}"
        raise ExtensionError(msg)
    return Installed(package, extension)


def mistakes_in(found: Sequence[Installed]) -> Iterator[str]:
    """All that is wrong, each in a sentence that names the package."""
    for it in found:
        yield from (f"package {it.package}: {mistake}" for mistake in _own_mistakes(it.extension))
    yield from _clashes(found)


def _own_mistakes(extension: Extension) -> Iterator[str]:
    keys = {it.contract: it for it in extension.messages}
    for message in extension.messages:
        yield from _of_message(message)
    for kind in extension.kinds:
        yield from _of_kind(kind, keys.get(kind.event))
    for handler in extension.handlers:
        row = keys.get(handler.contract)
        if row is None or row.consumer != "maintenance":
            name = handler.contract.__name__
            yield f"the handler of {name} needs a message of that contract with consumer maintenance"
    handled = {it.contract for it in extension.handlers}
    for message in extension.messages:
        if message.consumer == "maintenance" and message.contract not in handled:
            yield f"message {message.routing_key} has consumer maintenance but no handler"
        if message.consumer == "notifier" and message.contract not in {it.event for it in extension.kinds}:
            yield f"message {message.routing_key} has consumer notifier but no kind of mail whose event it is"
    for listen in extension.listens:
        if not _NAME.match(listen.consumer) or listen.consumer in {*SERVICES, *RESERVED_CONSUMERS}:
            yield f"{listen.consumer!r} cannot listen: give the package's own service a name of its own"
        if listen.routing_key not in CATALOGUE and listen.routing_key not in {it.routing_key for it in keys.values()}:
            yield f"{listen.consumer} listens to {listen.routing_key!r}, which is not a message"
    yield from _of_grants(extension)


def _of_message(message: Message) -> Iterator[str]:
    key = message.routing_key
    if not _KEY.match(key) or len(key) > KEY_LIMIT:
        yield f"{key!r} is not a routing key: two or more words of small letters, digits and _ with dots between them"
    consumer = message.consumer
    if consumer is not None and (not _NAME.match(consumer) or consumer in RESERVED_CONSUMERS):
        yield f"message {key}: {consumer!r} cannot be a consumer"
    if message.kind == "command" and (consumer is None or not key.startswith(f"{consumer}.")):
        yield f"command {key}: the routing key of a command begins with the name of its consumer"
    for role in message.published_by:
        if not _NAME.match(role):
            yield f"message {key}: {role!r} is not a role that could publish it"


def _of_kind(kind: Kind, row: Message | None) -> Iterator[str]:
    name = f"kind of mail {kind.name!r}"
    if not _NAME.match(kind.name):
        yield f"{name}: a name is small letters, digits and _, 31 at most, and begins with a letter"
    if row is None or row.consumer != "notifier":
        yield f"{name}: its event {kind.event.__name__} needs a message of that contract with consumer notifier"
    if kind.unsubscribe not in (None, kind.name):
        yield f"{name}: its unsubscribe code is its name, or None"
    if kind.is_instant:
        if not issubclass(kind.event, UserEvent) or kind.period is not Period.KEY:
            yield f"{name}: a kind for the named user has a UserEvent as its event, and the period KEY"
        if not isinstance(kind.what, NamedTask | Statement):
            yield f"{name}: a kind for the named user says NamedTask() or a Statement"
    elif kind.is_planned:
        if not issubclass(kind.event, MailingDue) or kind.period not in (Period.DAY, Period.WEEK):
            yield f"{name}: a planned kind has a MailingDue as its event, and the period DAY or WEEK"
        if not isinstance(kind.what, AssignedTasks | Statement):
            yield f"{name}: a planned kind says AssignedTasks(…) or a Statement"
        if kind.who == ():
            yield f"{name}: it has no condition, so nobody would get it"
    else:
        yield f"{name}: a package's kind goes to users: conditions, a Statement, or NamedUser()"


def _of_grants(extension: Extension) -> Iterator[str]:
    for grant in extension.grants:
        if not _NAME.match(grant.role):
            yield f"{grant.role!r} is not a role that could be granted anything"
        if not _TABLE.match(grant.table):
            yield f"{grant.table!r} is not a table: write app.NAME, or SCHEMA.NAME for a schema of the package's own"
        elif grant.table.startswith(("taskbell.", "pg_catalog.", "information_schema.")):
            yield f"a package cannot be granted anything on {grant.table}"
        for privilege in grant.privileges:
            if not _PRIVILEGES.match(privilege):
                yield f"{privilege!r} is not a privilege: SELECT, INSERT, UPDATE or DELETE, perhaps with (columns)"


def _clashes(found: Sequence[Installed]) -> Iterator[str]:
    claims: dict[tuple[str, str], str] = {}
    for what, name in _our_claims():
        claims[what, name] = OURS
    for it in found:
        for what, name in _claims(it.extension.messages, it.extension.kinds, it.services):
            other = claims.setdefault((what, name), it.package)
            if other != it.package:
                yield f"packages {other} and {it.package} both claim the {what} {name}: remove one of them"
        yield from _twice(it)


def _twice(it: Installed) -> Iterator[str]:
    counted = Counter(_claims(it.extension.messages, it.extension.kinds, it.services))
    for (what, name), count in counted.items():
        if count > 1:
            yield f"package {it.package} claims the {what} {name} {count} times"


def _our_claims() -> Iterator[tuple[str, str]]:
    yield from _claims(CATALOGUE.values(), (), ())
    # The notifier's own kinds; their names are in the ledger, so they are known here without it.
    yield from (("kind of mail", name) for name in ("reminder", "overdue", "weekly", "report", "test"))


def _claims(messages: Iterable[Message], kinds: Iterable[Kind], services: Iterable[str]) -> Iterator[tuple[str, str]]:
    for message in messages:
        yield "message", message.routing_key
        yield "contract", _path(message.contract)
        if message.queue is not None:
            yield "queue", message.queue
    for kind in kinds:
        yield "kind of mail", kind.name
        yield "event of a kind of mail", _path(kind.event)
    for service in services:
        yield "service", service


def _path(contract: type[Contract]) -> str:
    return f"{contract.__module__}.{contract.__qualname__}"
