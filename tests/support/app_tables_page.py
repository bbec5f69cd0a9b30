"""The SQL of docs/app-tables.md, as it stands there."""

import re
from pathlib import Path
from typing import NamedTuple

PAGE = Path(__file__).parents[2] / "docs" / "app-tables.md"
SCHEMA = "for_taskbell"
"""Where its views are."""


class PageSql(NamedTuple):
    """Its blocks, in order."""

    tables: str
    views: str
    indexes: str
    indexes_of_our_own: str


def page_sql() -> PageSql:
    """Fails where the page has more or fewer."""
    return PageSql(*re.findall(r"^```sql\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL))
