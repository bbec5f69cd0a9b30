"""What all commands share: how they print, and how they report a mistake."""

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any


def print_json(value: Any) -> None:
    """Prints JSON, with times as RFC 3339. What could control a terminal, or turn its lines round, is escaped."""
    written = json.dumps(value, ensure_ascii=False, indent=2, default=_as_json)
    # JSON's structure is printable, so whatever is not stands in a string.
    print("".join(it if it.isprintable() or it == "\n" else json.dumps(it)[1:-1] for it in written))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Prints a table; on a terminal that is too narrow, each row as a paragraph. Nothing is cut: it can be copied."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Table

    console = Console(markup=False, highlight=False, emoji=False)
    width = console.width if console.is_terminal else 2000
    wide = Console(markup=False, highlight=False, emoji=False, width=max(width, 2000), height=25)
    table = Table(*columns, box=SIMPLE_HEAD, pad_edge=False)
    cells = [[shown(value) for value in row] for row in rows]
    for row in cells:
        table.add_row(*row)
    if Measurement.get(wide, wide.options, table).maximum <= width:
        wide.print(table)
        return
    indent = max(map(len, columns))
    for row in cells:
        print()
        for column, cell in zip(columns, row, strict=True):
            if cell:
                print(f"{column:>{indent}}  {cell}")


def shown(value: object) -> str:
    """The value as a text for a terminal: characters that could control the terminal are replaced."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S %Z")
    text = json.dumps(value, ensure_ascii=False, default=_as_json) if isinstance(value, dict | list) else str(value)
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text.replace("\n", " "))


def _as_json(value: object) -> str:
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
