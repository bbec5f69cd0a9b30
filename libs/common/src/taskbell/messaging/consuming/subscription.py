"""What a service's table of messages, its `handlers.py`, is made of."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic

from taskbell.messaging.consuming.delivery import Body, Envelope, Received
from taskbell.messaging.topology import Binding, binding_of

Handler = Callable[[Sequence[Received[Body]]], Awaitable[None]]
"""A use case; all messages of the set have taken effect when it returns."""

Verdict = Callable[[Sequence[tuple[Envelope, str]]], Awaitable[None]]
"""Called with messages and what is wrong with each; again if it fails with Unavailable."""


@dataclass(frozen=True, slots=True)
class Subscription(Generic[Body]):
    """One line of a service's `handlers.py`.

    Args:
        queue: the queue's name.
        contract: what its bodies must validate against.
        handle: the use case.
        batch: at most so many messages that wait together are handled together.
        workers: how many sets are handled at the same time.
        prefetch: at most so many are held unacknowledged, and one more when a session begins.
        on_invalid: called with messages that do not validate, before they are dead-lettered.
        on_dead: called with a valid message, and the reason, before it is dead-lettered.
    """

    queue: str
    contract: type[Body]
    handle: Handler[Body]
    batch: int = 1
    workers: int = 1
    prefetch: int = 10
    on_invalid: Verdict | None = None
    on_dead: Callable[[Received[Body], str], Awaitable[None]] | None = None

    @property
    def binding(self) -> Binding:
        """The exchange and routing key under which its messages are published.

        Messages also come back from the retry queues, by the default exchange.

        Raises:
            KeyError: no message of the catalogue has this contract.
        """
        return binding_of(self.queue, self.contract)
