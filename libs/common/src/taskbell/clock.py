"""One clock, constructed by each service's `app.py` and passed on; nothing else reads the time."""

from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Gives the time."""

    def now(self) -> datetime:
        """The present moment, aware, in UTC."""
        ...


class SystemClock:
    """The machine's clock. What is persisted uses the database's `now()` instead."""

    def now(self) -> datetime:
        return datetime.now(UTC)
