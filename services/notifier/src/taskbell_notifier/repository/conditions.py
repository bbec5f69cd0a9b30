"""The conditions and statements of kinds of mail as SQL over tasks `t`; planning, contents and history use it.

`domain.meets` is the same in Python; a property test checks that both agree.
"""

import re
from datetime import timedelta

from taskbell.kinds import Completed, Condition, Due, Open, Statement

AT = "CAST(:at AS timestamptz)"
"""T, as a parameter."""

# Cast, because the enum of a web app may lack some of these labels, and PostgreSQL refuses labels that an enum lacks.
STATUS = "CAST(t.status AS text)"
OPEN = f"{STATUS} IN ('pending', 'in_progress')"

_AT = re.compile(r"(?<!:):at\b")
_CURSOR = re.compile(r"(?<!:):cursor\b")
_LAST = re.compile(r"(?<!:):last\b")


def predicate(condition: Condition, at: str = AT) -> str:
    """The condition on a task `t`; `at` is the SQL expression for T."""
    match condition:
        case Open(None):
            return OPEN
        case Open(status):
            return f"{STATUS} = {_literal(status)}"
        case Due(start, end):
            return " AND ".join([OPEN, *_within("t.due_date", at, start, end)])
        case Completed(start, end):
            return " AND ".join([f"{STATUS} = 'done'", *_within("t.completed_at", at, start, end)])


def who_statement(statement: Statement, app: str) -> str:
    """A package's `who` with its parameters cast to their types, as a part of the statement that binds them."""
    sql = _AT.sub(AT, statement.sql.replace("{app}", app))
    return _LAST.sub("CAST(:last AS bigint)", _CURSOR.sub("CAST(:cursor AS bigint)", sql))


def what_statement(statement: Statement, app: str) -> str:
    """A package's `what` with the web app's schema in place."""
    return _AT.sub(AT, statement.sql.replace("{app}", app))


def _within(column: str, at: str, start: timedelta | None, end: timedelta | None) -> list[str]:
    limits = []
    if start is not None:
        limits.append(f"{column} >= {_moment(at, start)}")
    if end is not None:
        limits.append(f"{column} < {_moment(at, end)}")
    return limits


def _moment(at: str, offset: timedelta) -> str:
    if not offset:
        return at
    sign = "+" if offset > timedelta(0) else "-"
    seconds = abs(offset).total_seconds()
    length = f"{seconds / 3600:.0f} hours" if seconds % 3600 == 0 else f"{seconds:f} seconds"
    return f"{at} {sign} interval '{length}'"


def _literal(text: str | None) -> str:
    return "'" + (text or "").replace("'", "''") + "'"
