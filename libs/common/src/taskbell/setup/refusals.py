"""Turns PostgreSQL's refusals into messages that name the remedy."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError

from taskbell.database import sqlstate
from taskbell.errors import DatabaseUnavailable, SettingsError, TaskbellError

_REMEDIES = {
    "28": "check user and password in DATABASE_URL",
    "3D000": "create the database that DATABASE_URL names, for example with createdb",
    "3F000": "run `taskbell setup`",
    "42501": "the user in DATABASE_URL may not do this; setup needs one who may create schemas and roles",
    "42703": "run `taskbell setup`; docs/app-tables.md lists the columns that the app's tables need",
    "42P01": "run `taskbell setup`",
    "42883": "run `taskbell setup`",
}
"""What to do, by SQLSTATE or by its class."""

_APP_TABLE = "the app's tables must be in the schema that APP_SCHEMA names (docs/app-tables.md)"


@contextmanager
def explained() -> Iterator[None]:
    """Raises a SettingsError for a refusal whose remedy is known, and a TaskbellError for any other."""
    try:
        yield
    except (DBAPIError, DatabaseUnavailable) as error:
        refusal = error if isinstance(error, DBAPIError) else error.__cause__
        if not isinstance(refusal, DBAPIError):
            raise
        state = sqlstate(refusal) or ""
        remedy = _REMEDIES.get(state) or _REMEDIES.get(state[:2])
        if state == "42P01" and "taskbell." not in str(refusal.orig):
            remedy = _APP_TABLE
        said = f"PostgreSQL: {str(refusal.orig).splitlines()[0]}"
        if remedy is None:
            if error is not refusal:
                raise
            raise TaskbellError(said) from error
        msg = f"{said}: {remedy}"
        raise SettingsError(msg) from error
