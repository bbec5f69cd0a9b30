"""How a command ended, as `request` returns it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from taskbell.contracts import CommandOutcome, CommandState


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended.

    Attributes:
        message_id: the command's message_id; `taskbell commands show` finds the command by it.
        state: done, unchanged (there was nothing to do), rejected or failed.
        result: what the command reports of its effect, such as the old status.
        reason: why it was rejected or failed.
    """

    message_id: str
    state: CommandState
    result: Mapping[str, Any] | None = None
    reason: str | None = None

    @property
    def ok(self) -> bool:
        """Whether what was asked for is now so: the state is done or unchanged."""
        return self.state in ("done", "unchanged")

    @classmethod
    def of(cls, reply: CommandOutcome) -> "Outcome":
        """The outcome that a reply reports."""
        return cls(reply.message_id, reply.state, reply.result, reply.reason)
