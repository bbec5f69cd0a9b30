"""Writes names of columns that we do not know into SQL text."""

from taskbell.database import quoted


def column(name: str) -> str:
    """The column's name, quoted, with colons escaped so that they do not count as the statement's parameters."""
    return quoted(name).replace(":", "\\:")
