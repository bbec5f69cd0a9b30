"""The permissions, as data: a role for each service, one for the web app, and one for the operator's command line.

`taskbell setup` applies them (roles.py to PostgreSQL, users.py to RabbitMQ). No role has more than it needs: the
scheduler cannot read tasks or mail, the notifier cannot change tasks, maintenance cannot mark a mail as sent, and only
the administrator who runs setup can change tables or topology. Tests try every cell against their own matrix, and
docs/permissions.md describes the same in prose: change it together with this module.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from taskbell.contracts import CATALOGUE, COMMANDS, EVENTS, Message
from taskbell.extensions import Grant, Installed
from taskbell.messaging.topology import DEAD, RETRIES, consumers, dead_queue, service_of, topology

ROLES = ("scheduler", "notifier", "maintenance", "app", "operator")
"""Our roles. A package that is granted adds one for each service of its own."""

Passwords = Mapping[str, str]
"""By role, ours and those of packages."""


def login(role: str) -> str:
    """The name of that role's user, the same in PostgreSQL and RabbitMQ."""
    return f"taskbell_{role}"


_EACH = re.compile(r"[A-Z]+(?: \([^)]+\))?")
_ALL_ROWS = "SELECT, INSERT, UPDATE, DELETE"
_PEOPLE = "SELECT (id, name, email, timezone, locale, is_active)"
_PROJECTS = "SELECT (id, name)"


_PRIVILEGES: Mapping[str, Mapping[str, str]] = {
    "scheduler": {
        "app.users": "SELECT (timezone, is_active)",
        "taskbell.schedule_state": "SELECT, INSERT, UPDATE",
        "taskbell.occurrence": _ALL_ROWS,
        "taskbell.outbox": _ALL_ROWS,
    },
    "notifier": {
        "app.users": _PEOPLE,
        "app.projects": _PROJECTS,
        # Only what mails show: not descriptions, and not columns that Taskbell does not know.
        "app.tasks": "SELECT (id, title, status, priority, due_date, completed_at, project_id, assignee_id)",
        "taskbell.mailing": _ALL_ROWS,
        "taskbell.delivery": _ALL_ROWS,
        "taskbell.preference": "SELECT, INSERT, UPDATE",
        "taskbell.suppression": "SELECT, INSERT, DELETE",  # lifts those that were no recipient's fault
        "taskbell.refusal": _ALL_ROWS,
        "taskbell.answering": _ALL_ROWS,
        "taskbell.awaited_command": _ALL_ROWS,
        "taskbell.command": _ALL_ROWS,
        "taskbell.refused_command": _ALL_ROWS,
        "taskbell.report": "SELECT",
        "taskbell.outbox": _ALL_ROWS,
    },
    "maintenance": {
        # Whole rows: the archive keeps columns that Taskbell does not know.
        "app.tasks": "SELECT, DELETE, UPDATE (status, updated_at, completed_at)",
        "app.projects": _PROJECTS,
        "taskbell.delivery": "SELECT (kind, state, ended_at)",
        "taskbell.command": _ALL_ROWS,
        "taskbell.refused_command": _ALL_ROWS,
        "taskbell.report": "SELECT, INSERT, UPDATE",
        "taskbell.archive_batch": "SELECT, INSERT, UPDATE",
        "taskbell.archived_task": "INSERT",
        "taskbell.outbox": _ALL_ROWS,
    },
    # The web app gets the rights on its own tables elsewhere. Of our schema it may only call taskbell.enqueue().
    "app": {},
    # A person who reads about people and tasks, and all of our tables.
    "operator": {
        "app.users": _PEOPLE,
        "app.projects": _PROJECTS,
        "app.tasks": "SELECT, INSERT",  # INSERT restores archived tasks
        # To pause and resume; only the scheduler writes how far a schedule has come.
        "taskbell.schedule_state": "SELECT, INSERT, UPDATE (paused, paused_at, resumed_at, note, updated_at)",
        "taskbell.occurrence": "SELECT",
        "taskbell.outbox": "SELECT",
        "taskbell.command": "SELECT",
        "taskbell.refused_command": "SELECT",
        "taskbell.mailing": "SELECT",
        "taskbell.delivery": "SELECT",
        "taskbell.preference": "SELECT",
        "taskbell.suppression": "SELECT, DELETE",  # an operator lifts suppressions
        "taskbell.refusal": "SELECT",
        "taskbell.answering": "SELECT",
        "taskbell.awaited_command": "SELECT",
        "taskbell.report": "SELECT",
        "taskbell.archive_batch": "SELECT, UPDATE (restored)",
        "taskbell.archived_task": "SELECT, UPDATE (restored_at)",
    },
}
"""By role and table. `app.` stands for APP_SCHEMA, `taskbell.` for our own schema."""


GRANTS: Mapping[str, tuple[Grant, ...]] = {
    role: tuple(Grant(role, table, tuple(_EACH.findall(privileges))) for table, privileges in tables.items())
    for role, tables in _PRIVILEGES.items()
}


def grants_of(role: str, granted: Sequence[Installed]) -> tuple[Grant, ...]:
    """What the packages that are granted ask for on behalf of that role, ours or one of theirs."""
    return tuple(grant for package in granted for grant in package.extension.grants if grant.role == role)


def messages_with(granted: Sequence[Installed]) -> tuple[Message, ...]:
    """Our messages, and those of packages that are granted."""
    return (*CATALOGUE.values(), *(message for package in granted for message in package.extension.messages))


def roles(granted: Sequence[Installed]) -> tuple[str, ...]:
    """Our roles, and those of the services of packages that are granted."""
    return (*ROLES, *(service for package in granted for service in package.services))


MAY_ENQUEUE: tuple[str, ...] = ("app",)
"""Roles that may call taskbell.enqueue(). Services write their own outbox rows, and operators publish to the broker."""

MAY_RESEND: tuple[str, ...] = ("notifier", "operator")
"""Roles that may call taskbell.resend(). It writes rows of the ledger and of the outbox that an operator may not."""

OUTBOX_OWNERS: Mapping[str, tuple[str, ...]] = {
    "scheduler": ("scheduler",),
    "notifier": ("notifier",),
    "maintenance": ("maintenance", "app"),
    "operator": ("scheduler", "notifier", "maintenance", "app"),
}
"""The owners whose outbox rows a role can see and change; row-level security hides all others."""


@dataclass(frozen=True, slots=True)
class Access:
    """A RabbitMQ user's permissions, as regular expressions on names. No user may configure anything."""

    write: str
    read: str
    topics: dict[str, str]
    """The routing keys that the user may publish, by topic exchange."""
    tags: str = ""


def access_of(role: str, granted: Sequence[Installed]) -> Access:
    """The permissions of a role, ours or that of a package's service, with the packages that are granted.

    A service reads the queues of every package that is installed beside it, granted or not: RabbitMQ would refuse it
    the others as well.
    """
    messages = messages_with(granted)
    by_anyone = [message for message in messages if message.by_anyone]
    published = [message for message in messages if role in message.published_by]
    if role == "scheduler":
        # A schedule may publish any event or command of the catalogue. If RabbitMQ refused one, that would show only
        # when the schedule falls due, long after its file was checked, and its outbox row could never be published.
        return Access(_BOTH, _NOTHING, _topics(messages))
    if role == "app":
        return Access(_BOTH, _NOTHING, _topics(by_anyone))
    if role == "operator":
        dead = "|".join(consumers())
        return Access(_BOTH, rf"^({dead})\.dead$", _topics(by_anyone), tags="management")
    if role == "notifier":
        return Access(_SERVICE_WRITES, _queues(role), _topics(published))
    # Maintenance also relays the web app's outbox, and so needs whatever anyone may publish. A package's service is a
    # program of the web app's people, and publishes what that may besides its own.
    return Access(_SERVICE_WRITES, _queues(role), _topics([*published, *by_anyone]), tags=_tag(role, granted))


def keys_in(expression: str) -> frozenset[str]:
    """The routing keys that a permission of ours names."""
    return frozenset(expression.removeprefix("^(").removesuffix(")$").replace(r"\.", ".").split("|")) - {"", _NOTHING}


def _tag(role: str, granted: Sequence[Installed]) -> str:
    """Marks a package's user as made by setup. The package's name never stands alone: it could be `administrator`."""
    return next((f"{PACKAGE_TAG}{package.package}" for package in granted if role in package.services), "")


def _topics(messages: Iterable[Message]) -> dict[str, str]:
    keys: dict[str, list[str]] = {EVENTS: [], COMMANDS: []}
    for message in messages:
        if message.routing_key not in keys[message.exchange]:
            keys[message.exchange].append(message.routing_key)
    return {exchange: _names(*found) if found else _NOTHING for exchange, found in keys.items()}


def _queues(consumer: str) -> str:
    """The queues that this service consumes. Its dead letters are not among them, because operators read those."""
    mine = [queue.name for queue in topology().queues if service_of(queue.name) == consumer]
    return _names(*(name for name in mine if name != dead_queue(consumer)))


def _names(*names: str) -> str:
    return "^(" + "|".join(name.replace(".", r"\.") for name in names) + ")$"


PACKAGE_TAG = "package:"
"""Begins the tag of a RabbitMQ user that setup has made for a package's service."""

_NOTHING = "^$"
_BOTH = _names(EVENTS, COMMANDS)
# amq.default: outcomes go to reply queues through the default exchange.
_SERVICE_WRITES = _names(EVENTS, COMMANDS, DEAD, *(name for name, _ in RETRIES), "amq.default")
