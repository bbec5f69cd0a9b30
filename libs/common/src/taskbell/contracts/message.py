"""A row of the table of messages."""

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
    """The service that has a queue for it; None: an outcome to which anybody may bind a queue."""
    by_anyone: bool
    """Whether a web app, a person and every schedule may publish it."""
    published_by: tuple[str, ...] = ()
    """Services that may publish it besides: of ours, notifier and maintenance; of a package, its own."""

    @property
    def exchange(self) -> str:
        """The topic exchange that it is published to."""
        return EVENTS if self.kind == "event" else COMMANDS

    @property
    def queue(self) -> str | None:
        """Its queue, named `service.message`, or None where this page names none."""
        if self.consumer is None:
            return None
        name = self.routing_key.removeprefix(f"{self.consumer}.").replace(".", "_")
        return f"{self.consumer}.{name}"

    @property
    def has_outcome(self) -> bool:
        """A command whose outcome is kept and sent to whoever asks; the notifier's own batches have none."""
        return self.kind == "command" and self.by_anyone

    @property
    def mandatory(self) -> bool:
        """A message for which a queue is named must be routed; returned, it stays in the outbox."""
        return self.consumer is not None
