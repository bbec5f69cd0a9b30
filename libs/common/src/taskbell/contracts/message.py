"""What the table of messages says of each message."""

from dataclasses import dataclass
from typing import Literal

from taskbell.contracts.base import Contract

EVENTS = "taskbell.events"
COMMANDS = "taskbell.commands"


@dataclass(frozen=True, slots=True)
class Message:
    """One row of the table of messages."""

    routing_key: str
    kind: Literal["event", "command"]
    contract: type[Contract]
    publishers: str
    """Who publishes it, in words."""
    meaning: str
    consumer: str | None
    """The service that has a queue for it; None: it reports what happened, and anybody may bind a queue to it."""
    by_anyone: bool
    """Whether web apps, people and all schedules may publish it."""
    published_by: tuple[str, ...] = ()
    """Services that may publish it besides these: of ours, notifier and maintenance; of a package, its own."""

    @property
    def exchange(self) -> str:
        """The topic exchange that it is published to."""
        return EVENTS if self.kind == "event" else COMMANDS

    @property
    def queue(self) -> str | None:
        """Its queue, named `service.message`; None if no service consumes it."""
        if self.consumer is None:
            return None
        name = self.routing_key.removeprefix(f"{self.consumer}.").replace(".", "_")
        return f"{self.consumer}.{name}"

    @property
    def has_outcome(self) -> bool:
        """Whether its outcome is stored and sent to whoever asks: a command, except the notifier's own batches."""
        return self.kind == "command" and self.by_anyone

    @property
    def mandatory(self) -> bool:
        """Whether it must reach a queue, because a service consumes it. If RabbitMQ returns it, publishing failed."""
        return self.consumer is not None
