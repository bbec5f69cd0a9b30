"""Names of columns that we do not know, in SQL text."""

from taskbell.database import quoted


def column(name: str) -> str:
    """That column, quoted; a colon in its name is not taken for a parameter of the statement."""
    return quoted(name).replace(":", "\\:")
