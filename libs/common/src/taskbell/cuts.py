"""SQL that reads texts of the web app's tables, cut to what their readers need.

A column of text can hold gigabytes, and whoever may write to one of those tables could fill the memory of whoever reads
it. Each function takes an expression and returns one of type text.
"""

WORD = 100
"""Characters of a status, a priority, a zone's name or a locale. All that we know are shorter."""

NAME = 1_500
"""Characters of a title or a name: mails show up to 80 graphemes of 18 bytes each, which are at most 1,440."""

EMAIL = 400
"""Characters of an address; a valid one has at most 320."""


def word(expression: str, characters: int = WORD) -> str:
    """A status, a priority, a zone's name or a locale."""
    return f"left(CAST({expression} AS text), {characters})"


def name(expression: str) -> str:
    """A title, or the name of a person or a project."""
    return f"left(CAST({expression} AS text), {NAME})"


def email(expression: str) -> str:
    """An address; one that is too long ends with "…", so that what is left of it is not taken for a valid one."""
    return (
        f"CASE WHEN length(CAST({expression} AS text)) <= {EMAIL} THEN CAST({expression} AS text) "
        f"ELSE left(CAST({expression} AS text), {EMAIL}) || '…' END"
    )
