"""Recognises what PostgreSQL's errors mean: that a row was refused, or that a lock was not available."""

from sqlalchemy.exc import DBAPIError

from taskbell.database import sqlstate

# SQLSTATE classes: data exception (no such enum label, text too long), integrity constraint, triggered data change,
# WITH CHECK OPTION, triggered action, and errors that a trigger raises. A missing grant (42) does not count: that is a
# mistake of ours, which a retry may find corrected.
_REFUSALS = ("22", "23", "27", "44", "09", "P0")

_LOCK_NOT_AVAILABLE = "55P03"


def refused(error: DBAPIError) -> str | None:
    """PostgreSQL's reason if the table or its trigger refused a row, else None.

    It is the message only, because the detail repeats the row's values.
    """
    state = sqlstate(error)
    if state is None or not state.startswith(_REFUSALS):
        return None
    cause = error.orig.__cause__ if error.orig is not None else None
    return " ".join(str(getattr(cause, "message", None) or f"SQLSTATE {state}").split())[:500]


def is_locked(error: DBAPIError) -> bool:
    """Whether the statement did not get a lock in time."""
    return sqlstate(error) == _LOCK_NOT_AVAILABLE
