"""How a command ended, as `request` returns it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from taskbell.contracts import CommandOutcome, State


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended.

    Attributes:
        message_id: the command's; `taskbell commands show` finds it by this.
        state: done, unchanged (there was nothing to do), rejected or failed.
        result: what the command tells of its effect, such as the old status.
        reason: why it was rejected or failed.
    """

    message_id: str
    state: State
    result: Mapping[str, Any] | None = None
    reason: str | None = None

    @property
    def ok(self) -> bool:
        """What was asked for is now so: done, or unchanged."""
        return self.state in ("done", "unchanged")

    @classmethod
    def of(cls, reply: CommandOutcome) -> "Outcome":
        """The outcome that a reply tells of."""
        return cls(reply.message_id, reply.state, reply.result, reply.reason)
