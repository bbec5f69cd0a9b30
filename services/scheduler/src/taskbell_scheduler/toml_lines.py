"""Finds the lines of things in a TOML file, because the standard library's parser does not report them."""

import re
import tomllib
from collections.abc import Sequence

_AT_LINE = re.compile(r"\(at line (\d+), column \d+\)")

_OPAQUE = re.compile(
    r'''"""(?:\\.|[^\\])*?"""{1,3}|"(?:\\.|[^"\\\n])*"|#[^\n]*|''' + r"""'''.*?'{3,5}|'[^'\n]*'""", re.DOTALL
)
"""Strings and comments of a valid file. Brackets inside them open and close nothing."""


def table_lines(text: str, name: str) -> Sequence[int]:
    """The line, counted from 1, of each `[[name]]`, in order; those inside strings and arrays do not count.

    Args:
        text: valid TOML.
    """
    header = re.compile(rf"""[ \t]*\[\[?[ \t]*(["']?){re.escape(name)}\1[ \t]*\]\]?[ \t]*(#.*)?""")
    structure = _OPAQUE.sub(lambda found: "\n" * found[0].count("\n"), text)
    lines, depth = [], 0
    for number, (line, bare) in enumerate(zip(text.split("\n"), structure.split("\n"), strict=True), start=1):
        if depth == 0 and bare.lstrip().startswith("[") and header.fullmatch(line.rstrip("\r")):
            lines.append(number)
        depth += bare.count("[") + bare.count("{") - bare.count("]") - bare.count("}")
    return lines


def key_line(text: str, key: str) -> int | None:
    """The line, counted from 1, of the first mention of a top-level key or table; None: it is not found."""
    if tables := table_lines(text, key):
        return tables[0]
    assignment = re.compile(rf"""[ \t]*(["']?){re.escape(key)}\1[ \t]*[.=].*""")
    for number, line in enumerate(text.split("\n"), start=1):
        if assignment.fullmatch(line.rstrip("\r")):
            return number
    return None


def error_line(error: tomllib.TOMLDecodeError, text: str) -> int:
    """The line, counted from 1, that the parser names; the last line if it missed something at the end."""
    at = _AT_LINE.search(str(error))
    return int(at[1]) if at else text.rstrip("\n").count("\n") + 1


def error_reason(error: tomllib.TOMLDecodeError) -> str:
    """The parser's reason, without the line and column."""
    return _AT_LINE.sub("", str(error)).replace("(at end of document)", "at the end of the file").strip()
