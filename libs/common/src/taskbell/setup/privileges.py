"""Who may do what, as data: one role a service, one for the web app, one for the operator's command line.

`taskbell setup` applies it (roles.py to PostgreSQL, users.py to RabbitMQ). None has more than it needs: the scheduler
cannot read tasks or mail, the notifier cannot change tasks, maintenance cannot mark a mail sent, and nobody but setup's
own administrator can change tables or topology.
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
_MAILED = "id, title, status, priority, due_date, completed_at, project_id, assignee_id"

GRANTS: dict[RoleName, tuple[Grant, ...]] = {
    "scheduler": (
        Grant("app.users", "SELECT (timezone, is_active)"),
        Grant("taskbell.schedule_state", "SELECT, INSERT, UPDATE"),
        # What became of an occurrence stays as recorded; old rows are locked, which needs UPDATE of a column, and go.
        Grant("taskbell.occurrence", "SELECT, INSERT, DELETE, UPDATE (recorded_at)"),
        Grant("taskbell.outbox", _ALL_ROWS),
    ),
    "notifier": (
        _PEOPLE,
        Grant("app.tasks", f"SELECT ({_MAILED})"),
        _PROJECTS,
        Grant("taskbell.mailing", _ALL_ROWS),
        Grant("taskbell.delivery", _ALL_ROWS),
        Grant("taskbell.preference", "SELECT, INSERT, UPDATE"),
        Grant("taskbell.suppression", "SELECT, INSERT"),
        Grant("taskbell.command", _ALL_ROWS),
        Grant("taskbell.report", "SELECT"),
        Grant("taskbell.outbox", _ALL_ROWS),
    ),
    "maintenance": (
        Grant("app.tasks", "SELECT, DELETE, UPDATE (status, updated_at, completed_at)"),
        _PROJECTS,
        Grant("taskbell.delivery", "SELECT (kind, state, ended_at)"),
        Grant("taskbell.command", _ALL_ROWS),
        Grant("taskbell.report", "SELECT, INSERT, UPDATE"),
        Grant("taskbell.archive_batch", "SELECT, INSERT, UPDATE"),
        Grant("taskbell.archived_task", "INSERT"),
        Grant("taskbell.outbox", _ALL_ROWS),
    ),
    # The web app owns its own tables; of ours it may only call taskbell.enqueue().
    "app": (),
    "operator": (
        _PEOPLE,
        Grant("app.tasks", "SELECT, INSERT"),
        _PROJECTS,
        Grant("taskbell.schedule_state", "SELECT, INSERT, UPDATE"),
        Grant("taskbell.occurrence", "SELECT"),
        Grant("taskbell.outbox", "SELECT"),
        Grant("taskbell.command", "SELECT"),
        Grant("taskbell.mailing", "SELECT"),
        Grant("taskbell.delivery", "SELECT"),
        Grant("taskbell.preference", "SELECT"),
        Grant("taskbell.suppression", "SELECT, DELETE"),
        Grant("taskbell.report", "SELECT"),
        Grant("taskbell.archive_batch", "SELECT, UPDATE (restored)"),
        Grant("taskbell.archived_task", "SELECT, UPDATE (restored_at)"),
    ),
}

OUTBOX_OWNERS: dict[RoleName, tuple[str, ...]] = {
    "scheduler": ("scheduler",),
    "notifier": ("notifier",),
    "maintenance": ("maintenance", "app"),
    "operator": ("scheduler", "notifier", "maintenance", "app"),
}
"""Whose rows of the outbox a role sees: rows of others do not exist for it (row-level security)."""


@dataclass(frozen=True, slots=True)
class Access:
    """A RabbitMQ user's permissions, as regular expressions on names; nobody may configure anything."""

    write: str
    read: str
    topics: dict[str, str]
    """Routing keys that it may publish, by topic exchange."""
    tags: str = ""


def _names(*names: str) -> str:
    return "^(" + "|".join(name.replace(".", r"\.") for name in names) + ")$"


def _all(kind: str) -> tuple[str, ...]:
    return tuple(m.routing_key for m in CATALOGUE.values() if m.kind == kind)


def _by_anyone(kind: str) -> tuple[str, ...]:
    return tuple(m.routing_key for m in CATALOGUE.values() if m.kind == kind and m.by_anyone)


_NOTHING = "^$"
_BOTH = _names(EVENTS, COMMANDS)
_BY_ANYONE = {EVENTS: _names(*_by_anyone("event")), COMMANDS: _names(*_by_anyone("command"))}
# A schedule may publish any event or command: which ones, only its file tells.
_SCHEDULER = {EVENTS: _names(*_all("event")), COMMANDS: _names(*_all("command"))}
_NOTIFIER = {
    EVENTS: _names("mailing.completed", "mail.failed"),
    COMMANDS: _names("notifier.send_batch"),
}
_MAINTENANCE = {
    # It also relays the web app's outbox: what anyone may publish.
    EVENTS: _names("report.generated", "tasks.archived", "task.status_changed", *_by_anyone("event")),
    COMMANDS: _names(*_by_anyone("command")),
}
_SERVICE_WRITES = _names(EVENTS, COMMANDS, DEAD, *(name for name, _ in RETRIES), "amq.default")
# amq.default: outcomes go to reply queues through the default exchange.

ACCESS: dict[RoleName, Access] = {
    "scheduler": Access(_BOTH, _NOTHING, _SCHEDULER),
    "notifier": Access(_SERVICE_WRITES, r"^notifier\..*", _NOTIFIER),
    "maintenance": Access(_SERVICE_WRITES, r"^maintenance\..*", _MAINTENANCE),
    "app": Access(_BOTH, _NOTHING, _BY_ANYONE),
    "operator": Access(_BOTH, r"^(notifier|maintenance)\.dead$", _BY_ANYONE, tags="management"),
}
