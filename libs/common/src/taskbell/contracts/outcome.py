"""How a command ended, as it goes to whoever asked by `reply_to`. Not a message of the table: it has no routing key."""

from typing import Any, Literal

from taskbell.contracts.base import Contract

REPLY_TYPE = "command.outcome"
"""The AMQP property `type` of such a reply."""

State = Literal["done", "unchanged", "rejected", "failed"]
"""done: it took effect. unchanged: there was nothing to do. rejected: refused, see the reason. failed: it could not be
carried out in spite of retries and lies with the dead letters."""


class CommandOutcome(Contract):
    """The reply to a command."""

    message_id: str
    """The command's."""
    state: State
    result: dict[str, Any] | None = None
    reason: str | None = None
