"""Where an app keeps the message_ids of what has taken effect, so that a repeated message is handled once."""

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from taskbell.outcomes import Outcome

Handle = Callable[[Any], Awaitable[Outcome | None]]


class HandledMessages(Protocol):
    """An app's own store, or `HandledInPostgresql`."""

    async def once(self, queue: str, message_id: str, handle: Handle) -> Outcome | None:
        """Handles a message, unless it has taken effect; returns its outcome, of now or of then.

        A store that commits the message_id together with what the handler wrote makes the effect happen exactly once.
        Of two deliveries of one message at the same time the second waits for the first.

        Args:
            handle: handles the message, with whatever the handler should work with (`Transaction`), most often an open
                transaction. If it raises, nothing is kept.

        Raises:
            Unavailable: the store's server is away; the message is tried again after 10 s, and no try is counted.
        """
        ...


class HandledInMemory:
    """For tests: it forgets everything when the process ends, and does not make deliveries wait for each other."""

    def __init__(self) -> None:
        self.outcomes: dict[tuple[str, str], Outcome | None] = {}

    async def once(self, queue: str, message_id: str, handle: Handle) -> Outcome | None:
        """As the protocol says; the handler works with this store itself."""
        if (queue, message_id) not in self.outcomes:
            self.outcomes[queue, message_id] = await handle(self)
        return self.outcomes[queue, message_id]
