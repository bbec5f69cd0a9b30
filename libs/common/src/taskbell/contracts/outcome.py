"""The outcome of a command, as it is sent to its `reply_to`. The catalogue lacks it, because it has no routing key."""

from typing import Any, Literal

from taskbell.contracts.base import Contract

REPLY_TYPE = "command.outcome"
"""The AMQP property `type` of a reply."""

CommandState = Literal["done", "unchanged", "rejected", "failed"]
"""done: it took effect. unchanged: there was nothing to do. rejected: refused; the reason says why. failed: it could
not be carried out, after all retries, and is in the dead letters."""


class CommandOutcome(Contract):
    """The reply to a command; what `request` of the client returns."""

    message_id: str
    """The command's message_id; `taskbell commands show` finds the command by it."""
    state: CommandState
    result: dict[str, Any] | None = None
    """What the command reports of its effect, such as the old status."""
    reason: str | None = None
    """Why it was rejected or failed."""

    @property
    def ok(self) -> bool:
        """Whether what was asked for is now so: the state is done or unchanged."""
        return self.state in ("done", "unchanged")
