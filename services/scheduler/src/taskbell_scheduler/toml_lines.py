"""Where things stand in a TOML file: the standard library's parser does not say."""

import re
import tomllib
from collections.abc import Sequence

_AT_LINE = re.compile(r"\(at line (\d+), column \d+\)")


def table_lines(text: str, name: str) -> Sequence[int]:
    """The lines, from 1, of each `[[name]]`, in order; look-alikes inside multi-line strings are left out."""
    header = re.compile(rf"""[ \t]*\[\[?[ \t]*(["']?){re.escape(name)}\1[ \t]*\]\]?[ \t]*(#.*)?""")
    lines = text.split("\n")
    found = [number for number, line in enumerate(lines, start=1) if header.fullmatch(line.rstrip("\r"))]
    return [number for number in found if _is_whole("\n".join(lines[: number - 1]))]


def key_line(text: str, key: str) -> int | None:
    """The line, from 1, where a top-level key or table first stands, or None where it is not found."""
    if tables := table_lines(text, key):
        return tables[0]
    assignment = re.compile(rf"""[ \t]*(["']?){re.escape(key)}\1[ \t]*[.=].*""")
    for number, line in enumerate(text.split("\n"), start=1):
        if assignment.fullmatch(line.rstrip("\r")):
            return number
    return None


def error_line(error: tomllib.TOMLDecodeError, text: str) -> int:
    """The line, from 1, that the parser complains about; the last one where it missed something at the end."""
    at = _AT_LINE.search(str(error))
    return int(at[1]) if at else text.rstrip("\n").count("\n") + 1


def error_reason(error: tomllib.TOMLDecodeError) -> str:
    """What the parser complains about, without the place."""
    return _AT_LINE.sub("", str(error)).replace("(at end of document)", "at the end of the file").strip()


def _is_whole(text: str) -> bool:
    """Whether a file may end here: false inside a string or an array."""
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return False
    return True
