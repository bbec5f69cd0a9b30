"""What the mails of a package's kind say, as its own statement selects it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Protocol

from sqlalchemy.exc import DBAPIError

from taskbell.catalogue import package_of, row_of
from taskbell.database import INSUFFICIENT_PRIVILEGE, READ_ONLY, Transaction, sqlstate
from taskbell.errors import TaskbellError
from taskbell.kinds import Kind, Rows, Statement
from taskbell_notifier.repository.conditions import statement

MOST_ROWS = 20_000
"""Rows that a `what` may select for one batch: all are in memory together."""

TIMEOUT = 10.0
"""Seconds that a `what` may take: for so long, one of the few batches under way waits for it."""

# Both for the rest of the transaction, which only reads. What follows in it is about as many users, and takes
# milliseconds.
LIMITS = """
    SELECT set_config('transaction_read_only', 'on', true), set_config('statement_timeout', :milliseconds, true)
"""

_AWAY = ("08", "53")
"""Classes of SQLSTATE: connection exception, insufficient resources."""

Event = Mapping[str, Any]
"""What an event says besides our fields, as JSON has it."""


class StatementError(TaskbellError):
    """A package's statement does not select what it has to, does what it must not, or reads what is away."""


class TooManyRows(StatementError):
    """A package's statement selects more rows for these users than are read at once."""


@contextmanager
def of_package(statement: object, name: str, *, only_reads: bool = False) -> Iterator[None]:
    """Keeps what a package's statement reads or writes apart from our own PostgreSQL.

    A foreign table whose server is away, or a function that writes in a transaction that only reads, fails with the
    codes by which we know that PostgreSQL is away or has become a standby. Only this kind of mail has to wait for that.

    Raises:
        StatementError: such an error, if it is a `Statement` and our connection is as it was.
    """
    try:
        yield
    except DBAPIError as error:
        state = sqlstate(error) or ""
        if not isinstance(statement, Statement) or error.connection_invalidated:
            raise
        if only_reads and state == READ_ONLY:
            msg = f"{name} writes, which it must not"
            raise StatementError(msg) from error
        if state.startswith(_AWAY):
            msg = f"{name} fails: {said_of(error)}"
            raise StatementError(msg) from error
        raise


def said_of(error: DBAPIError) -> str:
    """PostgreSQL's message, without the lines that may hold values."""
    return str(error.orig).partition("\n")[0][:300]


def refusal(kind: Kind, error: DBAPIError) -> str:
    """What PostgreSQL said against a statement of that kind, and what to do about it."""
    said = said_of(error)
    if sqlstate(error) != INSUFFICIENT_PRIVILEGE:
        return said
    package = package_of(row_of(kind.event).routing_key)
    return f"{said}; `taskbell setup --grant {package}` grants what package {package} asks for"


class Announced(Protocol):
    """A mail for which an event named the user."""

    @property
    def id(self) -> int: ...
    @property
    def user_id(self) -> int | None: ...
    @property
    def props(self) -> Mapping[str, Any]:
        """What the event said: task_id, key, and under `event` what else."""


async def rows_of_users(
    transaction: Transaction, app: str, kind: Kind, at: datetime, users: Sequence[int], event: Event
) -> Mapping[int, Rows]:
    """What a planned kind has to say to each of these users at T; a user who is missing has nothing to be told.

    Raises:
        StatementError: the statement selects no user_id or too many rows, or it writes.
    """
    parameters = {"users": list(users), "at": at, "event": json.dumps(event)}
    found: dict[int, list[Mapping[str, Any]]] = {}
    for row in await _rows(transaction, app, kind, parameters, "user_id"):
        found.setdefault(row["user_id"], []).append(row)
    return {user: tuple(rows) for user, rows in found.items()}


async def rows_of_events(
    transaction: Transaction, app: str, kind: Kind, announced: Sequence[Announced]
) -> Mapping[int, Rows]:
    """What a kind whose events name their users has to say, by the ids of the mails.

    Raises:
        StatementError: the statement selects no user_id, no key or too many rows, or it writes.
    """
    parameters = {
        "users": [it.user_id for it in announced],
        "keys": [it.props.get("key") for it in announced],
        "events": [json.dumps({"task_id": it.props.get("task_id"), **event_of(it.props)}) for it in announced],
    }
    found: dict[tuple[Any, Any], list[Mapping[str, Any]]] = {}
    for row in await _rows(transaction, app, kind, parameters, "user_id", "key"):
        found.setdefault((row["user_id"], row["key"]), []).append(row)
    keys = {it.id: (it.user_id, it.props.get("key")) for it in announced}
    return {number: tuple(found[key]) for number, key in keys.items() if key in found}


def event_of(props: Mapping[str, Any]) -> Event:
    """What the event of a mailing says besides our fields."""
    event: Event = props.get("event") or {}
    return event


async def _rows(
    transaction: Transaction, app: str, kind: Kind, parameters: Mapping[str, Any], *needed: str
) -> Sequence[Mapping[str, Any]]:
    assert isinstance(kind.what, Statement), f"what {kind.name} mails say is not a statement"
    name = f"the statement of what {kind.name} mails say"
    await transaction.execute(LIMITS, {"milliseconds": str(round(TIMEOUT * 1000))})
    with of_package(kind.what, name, only_reads=True):
        found = await transaction.mappings(f"{statement(kind.what, app)} LIMIT {MOST_ROWS + 1}", parameters)
    if len(found) > MOST_ROWS:
        msg = f"{name} selects more than {MOST_ROWS} rows for {len(parameters['users'])} users"
        raise TooManyRows(msg)
    rows = [dict(row) for row in found]
    if rows and (missing := [name for name in needed if name not in rows[0]]):
        msg = f"{name} does not select {' and '.join(missing)}"
        raise StatementError(msg)
    return rows
