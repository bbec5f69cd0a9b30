"""The permissions, as data: a role for each service, one for the web app, and one for the operator's command line.

`taskbell setup` applies them (roles.py to PostgreSQL, users.py to RabbitMQ). No role has more than it needs: the
scheduler cannot read tasks or mail, the notifier cannot change tasks, maintenance cannot mark a mail as sent, and only
the administrator who runs setup can change tables or topology. Tests try every cell against their own matrix, and
docs/permissions.md describes the same in prose: change it together with this module.
"""

from dataclasses import dataclass
from typing import Literal

from taskbell.contracts import CATALOGUE, COMMANDS, EVENTS
from taskbell.messaging.topology import DEAD, RETRIES

RoleName = Literal["scheduler", "notifier", "maintenance", "app", "operator"]

ROLES: tuple[RoleName, ...] = ("scheduler", "notifier", "maintenance", "app", "operator")


def login(role: RoleName) -> str:
    """The name of that role's user, the same in PostgreSQL and RabbitMQ."""
    return f"taskbell_{role}"


@dataclass(frozen=True, slots=True)
class Grant:
    """Privileges on a table: `SELECT`, or `SELECT (id, name)` for some columns."""

    table: str
    """`app.` stands for APP_SCHEMA, `taskbell.` for our own schema."""
    privileges: str


_ALL_ROWS = "SELECT, INSERT, UPDATE, DELETE"

_PEOPLE = Grant("app.users", "SELECT (id, name, email, timezone, locale, is_active)")
_PROJECTS = Grant("app.projects", "SELECT (id, name)")

GRANTS: dict[RoleName, tuple[Grant, ...]] = {
    "scheduler": (
        Grant("app.users", "SELECT (timezone, is_active)"),
        Grant("taskbell.schedule_state", "SELECT, INSERT, UPDATE"),
        Grant("taskbell.occurrence", _ALL_ROWS),
        Grant("taskbell.outbox", _ALL_ROWS),
    ),
    "notifier": (
        _PEOPLE,
        _PROJECTS,
        # Only what mails show: not descriptions, and not columns that Taskbell does not know.
        Grant("app.tasks", "SELECT (id, title, status, priority, due_date, completed_at, project_id, assignee_id)"),
        Grant("taskbell.mailing", _ALL_ROWS),
        Grant("taskbell.delivery", _ALL_ROWS),
        Grant("taskbell.preference", "SELECT, INSERT, UPDATE"),
        Grant("taskbell.suppression", "SELECT, INSERT"),
        Grant("taskbell.command", _ALL_ROWS),
        Grant("taskbell.report", "SELECT"),
        Grant("taskbell.outbox", _ALL_ROWS),
    ),
    "maintenance": (
        # Whole rows: the archive keeps columns that Taskbell does not know.
        Grant("app.tasks", "SELECT, DELETE, UPDATE (status, updated_at, completed_at)"),
        _PROJECTS,
        Grant("taskbell.delivery", "SELECT (kind, state, ended_at)"),
        Grant("taskbell.command", _ALL_ROWS),
        Grant("taskbell.report", "SELECT, INSERT, UPDATE"),
        Grant("taskbell.archive_batch", "SELECT, INSERT, UPDATE"),
        Grant("taskbell.archived_task", "INSERT"),
        Grant("taskbell.outbox", _ALL_ROWS),
    ),
    # The web app gets the rights on its own tables elsewhere. Of our schema it may only call taskbell.enqueue().
    "app": (),
    # A person who reads about people and tasks, and all of our tables.
    "operator": (
        _PEOPLE,
        _PROJECTS,
        Grant("app.tasks", "SELECT, INSERT"),  # INSERT restores archived tasks
        # To pause and resume; only the scheduler writes how far a schedule has come.
        Grant(
            "taskbell.schedule_state",
            "SELECT, INSERT, UPDATE (paused, paused_at, resumed_at, note, updated_at)",
        ),
        Grant("taskbell.occurrence", "SELECT"),
        Grant("taskbell.outbox", "SELECT"),
        Grant("taskbell.command", "SELECT"),
        Grant("taskbell.mailing", "SELECT"),
        Grant("taskbell.delivery", "SELECT"),
        Grant("taskbell.preference", "SELECT"),
        Grant("taskbell.suppression", "SELECT, DELETE"),  # an operator lifts suppressions
        Grant("taskbell.report", "SELECT"),
        Grant("taskbell.archive_batch", "SELECT, UPDATE (restored)"),
        Grant("taskbell.archived_task", "SELECT, UPDATE (restored_at)"),
    ),
}

MAY_ENQUEUE: tuple[RoleName, ...] = ("app",)
"""Roles that may call taskbell.enqueue(). Services write their own outbox rows, and operators publish to the broker."""

OUTBOX_OWNERS: dict[RoleName, tuple[str, ...]] = {
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


def _names(*names: str) -> str:
    return "^(" + "|".join(name.replace(".", r"\.") for name in names) + ")$"


def _all(kind: str) -> tuple[str, ...]:
    return tuple(m.routing_key for m in CATALOGUE.values() if m.kind == kind)


def _by_anyone(kind: str) -> tuple[str, ...]:
    return tuple(m.routing_key for m in CATALOGUE.values() if m.kind == kind and m.by_anyone)


def _queues(consumer: str) -> str:
    """The queues that this service consumes. Its dead letters are not among them, because operators read those."""
    return _names(*(m.queue for m in CATALOGUE.values() if m.queue is not None and m.consumer == consumer))


_NOTHING = "^$"
_BOTH = _names(EVENTS, COMMANDS)
# A schedule may publish any event or command of the catalogue. If RabbitMQ refused one, that would show only when the
# schedule falls due, long after its file was checked, and its outbox row could never be published.
_EVERY = {EVENTS: _names(*_all("event")), COMMANDS: _names(*_all("command"))}
_BY_ANYONE = {EVENTS: _names(*_by_anyone("event")), COMMANDS: _names(*_by_anyone("command"))}
_NOTIFIER = {
    EVENTS: _names("mailing.completed", "mail.failed"),
    COMMANDS: _names("notifier.send_batch"),
}
_MAINTENANCE = {
    # It also relays the web app's outbox, and so needs whatever anyone may publish.
    EVENTS: _names("report.generated", "tasks.archived", "task.status_changed", *_by_anyone("event")),
    COMMANDS: _names(*_by_anyone("command")),
}
# amq.default: outcomes go to reply queues through the default exchange.
_SERVICE_WRITES = _names(EVENTS, COMMANDS, DEAD, *(name for name, _ in RETRIES), "amq.default")

ACCESS: dict[RoleName, Access] = {
    "scheduler": Access(_BOTH, _NOTHING, _EVERY),
    "notifier": Access(_SERVICE_WRITES, _queues("notifier"), _NOTIFIER),
    "maintenance": Access(_SERVICE_WRITES, _queues("maintenance"), _MAINTENANCE),
    "app": Access(_BOTH, _NOTHING, _BY_ANYONE),
    "operator": Access(_BOTH, r"^(notifier|maintenance)\.dead$", _BY_ANYONE, tags="management"),
}
