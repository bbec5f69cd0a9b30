"""What the table of messages says of each message."""

from dataclasses import dataclass
from typing import Literal

from taskbell.contracts.base import Contract

EVENTS = "taskbell.events"
COMMANDS = "taskbell.commands"


def queue_of(consumer: str, routing_key: str) -> str:
    """The name of that service's queue for that message: `maintenance.update_task_status`, `notifier.weekly_due`."""
    return f"{consumer}.{routing_key.removeprefix(f'{consumer}.').replace('.', '_')}"


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
        return None if self.consumer is None else queue_of(self.consumer, self.routing_key)

    @property
    def has_outcome(self) -> bool:
        """A command whose outcome is kept and sent to whoever asks. One that a service sends to itself has none."""
        return self.kind == "command" and (self.by_anyone or self.published_by != (self.consumer,))

    @property
    def mandatory(self) -> bool:
        """Whether it must reach a queue, because a service consumes it. If RabbitMQ returns it, publishing failed."""
        return self.consumer is not None
