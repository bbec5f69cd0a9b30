"""How a command ended, as its handler says it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from taskbell.contracts import CommandState


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended."""

    state: CommandState
    result: Mapping[str, Any] | None = None
    reason: str | None = None

    @classmethod
    def done(cls, **result: Any) -> "Outcome":
        """It took effect."""
        return cls("done", result)

    @classmethod
    def unchanged(cls, **result: Any) -> "Outcome":
        """There was nothing to do."""
        return cls("unchanged", result)

    @classmethod
    def rejected(cls, reason: str, **result: Any) -> "Outcome":
        """It validates but is refused; the reason is for whoever asked."""
        return cls("rejected", result or None, reason)
