"""The conditions and statements of kinds of mail as SQL over tasks `t`; planning, contents and history use it.

`domain.meets` is the same in Python; a property test checks that both agree.
"""

from datetime import timedelta
from functools import lru_cache

from taskbell.kinds import Completed, Condition, Due, Open, Statement

AT = "CAST(:at AS timestamptz)"
"""T, as a parameter."""

# Cast, because the enum of a web app may lack some of these labels, and PostgreSQL refuses labels that an enum lacks.
STATUS = "CAST(t.status AS text)"
OPEN = f"{STATUS} IN ('pending', 'in_progress')"

_TYPES = {
    "at": "timestamptz",
    "cursor": "bigint",
    "last": "bigint",
    "users": "bigint[]",
    "keys": "text[]",
    "event": "jsonb",
    "events": "jsonb[]",
}
"""Of a package's parameters. Typed, each is known to the statement that it becomes a part of."""


def predicate(condition: Condition) -> str:
    """The condition on a task `t` at T, the parameter :at."""
    match condition:
        case Open(None):
            return OPEN
        case Open(status):
            return f"{STATUS} = {_literal(status)}"
        case Due(start, end):
            return " AND ".join([OPEN, *_within("t.due_date", start, end)])
        case Completed(start, end):
            return " AND ".join([f"{STATUS} = 'done'", *_within("t.completed_at", start, end)])


@lru_cache(maxsize=256)
def statement(of: Statement, app: str) -> str:
    """A package's statement with the web app's schema in place and its parameters typed.

    It is a subquery, in which PostgreSQL takes no statement that writes; a function may still do so.
    """
    sql = of.with_parameters(lambda name: f"CAST(:{name} AS {_TYPES[name]})", app)
    return f"SELECT * FROM (\n{sql}\n) AS selected"


def _within(column: str, start: timedelta | None, end: timedelta | None) -> list[str]:
    limits = []
    if start is not None:
        limits.append(f"{column} >= {_moment(start)}")
    if end is not None:
        limits.append(f"{column} < {_moment(end)}")
    return limits


def _moment(offset: timedelta) -> str:
    if not offset:
        return AT
    sign = "+" if offset > timedelta(0) else "-"
    seconds = abs(offset).total_seconds()
    length = f"{seconds / 3600:.0f} hours" if seconds % 3600 == 0 else f"{seconds:f} seconds"
    return f"{AT} {sign} interval '{length}'"


def _literal(text: str | None) -> str:
    return "'" + (text or "").replace("'", "''") + "'"
