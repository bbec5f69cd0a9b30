"""What PostgreSQL's errors mean: a row that was refused, or a lock that was not to be had."""

from sqlalchemy.exc import DBAPIError

from taskbell.database import sqlstate

_REFUSALS = ("22", "23", "27", "44", "09", "P0")
# SQLSTATE classes: data exception (no such enum label, text too long), integrity constraint, triggered data change,
# WITH CHECK OPTION, triggered action, and what a trigger raises. A missing grant (42) is our mistake, not an answer.

_LOCK_NOT_AVAILABLE = "55P03"


def refused(error: DBAPIError) -> str | None:
    """PostgreSQL's reason where a table refused a row or its trigger did, else None.

    Only the message: its detail repeats the row's values.
    """
    state = sqlstate(error)
    if state is None or not state.startswith(_REFUSALS):
        return None
    cause = error.orig.__cause__ if error.orig is not None else None
    return " ".join(str(getattr(cause, "message", None) or f"SQLSTATE {state}").split())[:500]


def is_locked(error: DBAPIError) -> bool:
    """Did the statement give up waiting for a lock?"""
    return sqlstate(error) == _LOCK_NOT_AVAILABLE
