"""Finds the lines of things in a TOML file, because the standard library's parser does not report them."""

import re
import tomllib
from collections.abc import Sequence

_AT_LINE = re.compile(r"\(at line (\d+), column \d+\)")


def table_lines(text: str, name: str) -> Sequence[int]:
    """The line, counted from 1, of each `[[name]]`, in order. Those inside multi-line strings do not count."""
    header = re.compile(rf"""[ \t]*\[\[?[ \t]*(["']?){re.escape(name)}\1[ \t]*\]\]?[ \t]*(#.*)?""")
    lines = text.split("\n")
    found = [number for number, line in enumerate(lines, start=1) if header.fullmatch(line.rstrip("\r"))]
    return [number for number in found if _is_whole("\n".join(lines[: number - 1]))]


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


def _is_whole(text: str) -> bool:
    """Whether a file may end here. False inside a string or an array."""
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return False
    return True
