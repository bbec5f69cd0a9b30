"""Writes names of columns that we do not know into SQL text."""

from functools import lru_cache

from taskbell.database import quoted


def column(name: str) -> str:
    """The column's name, quoted, with colons escaped so that they do not count as the statement's parameters."""
    return quoted(name).replace(":", "\\:")


@lru_cache(maxsize=64)
def of_app(sql: str, app: str) -> str:
    """That statement with the web app's schema, already quoted, in place of `{app}`."""
    return sql.replace("{app}", app)
