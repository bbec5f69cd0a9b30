"""What becomes of each message: handled once and acknowledged, retried, or dead-lettered with the reason."""

import asyncio
import logging
from types import TracebackType
from typing import Any

from faststream import BaseMiddleware, ContextRepo
from faststream.exceptions import AckMessage, RejectMessage, StopConsume
from faststream.rabbit.publisher import RabbitPublisher

from taskbell.errors import BrokerUnavailable, InvalidMessage, Never, Unavailable, Unroutable
from taskbell.faststream.context import ENVELOPE, TRANSACTION
from taskbell.faststream.handled import HandledMessages
from taskbell.faststream.message import TaskbellMessage
from taskbell.faststream.publishing import send
from taskbell.messaging.consuming import failures
from taskbell.messaging.consuming.replies import reply_to
from taskbell.messaging.publishing.outgoing import Outgoing
from taskbell.outcomes import Outcome

HOLD = 20.0
"""Seconds for which a failed message is held if it cannot be moved; then it goes back to its queue."""

PAUSE = 1.0
"""Seconds between tries to move it."""

_log = logging.getLogger("taskbell.faststream")


class Handling(BaseMiddleware[Any, Any]):
    """Surrounds the handling of one message.

    A handler's error is not swallowed: whatever else watches the app's messages sees it, and so does a test.

    Args:
        ways: FastStream's publishers of the retry ladder, the dead letters and the replies, by exchange.
    """

    def __init__(
        self, msg: Any, /, *, context: ContextRepo, ways: dict[str, RabbitPublisher], handled: HandledMessages | None
    ) -> None:
        super().__init__(msg, context=context)
        self._ways = ways
        self._handled = handled
        self._message: TaskbellMessage | None = None
        self._error: BaseException | None = None
        self._outcome: Outcome | None = None

    async def consume_scope(self, call_next: Any, msg: Any) -> Any:
        """Parses the body, and hands it to its handler unless the message has taken effect."""
        if not isinstance(msg, TaskbellMessage):  # of a subscriber that is not ours
            return await call_next(msg)
        self._message = msg
        try:
            # What does not validate must not open a transaction.
            await msg.decode()
            with self.context.scope(ENVELOPE, msg.envelope):
                return await self._handle(call_next, msg)
        except BaseException as error:
            # Kept here, because an ExceptionMiddleware of the app's may swallow it on its way out.
            self._error = error
            raise

    async def after_processed(
        self,
        exc_type: type[BaseException] | None = None,
        exc_val: BaseException | None = None,
        exc_tb: TracebackType | None = None,
    ) -> bool:
        """Settles the message, after all that follows from its handling, and replies to whoever asked."""
        message = self._message
        # If `committed` is set, the handler has settled it itself.
        if message is not None and message.committed is None:
            await self._settle(message, self._error or exc_val)
            if self._outcome is not None and message.has_outcome:
                await self._reply(message, self._outcome)
        return False

    async def _handle(self, call_next: Any, message: TaskbellMessage) -> Any:
        result = None

        async def handle(transaction: Any) -> Outcome | None:
            nonlocal result
            with self.context.scope(TRANSACTION, transaction):
                result = await call_next(message)
            return result if isinstance(result, Outcome) else None

        if self._handled is None:
            self._outcome = await handle(None)
        else:
            envelope = message.envelope
            self._outcome = await self._handled.once(envelope.queue, envelope.message_id, handle)
        return result

    async def _settle(self, message: TaskbellMessage, error: BaseException | None) -> None:
        done = error is None or isinstance(error, AckMessage)
        if isinstance(error, Exception) and not isinstance(error, (AckMessage, StopConsume)):
            done = await self._move(message, error)
        try:
            if done:
                await message.ack()
            else:
                await message.nack(requeue=True)
        except Exception as lost:  # noqa: BLE001 - aio-pika has no one class for a lost channel; the message comes again
            _log.info("message.unsettled: %r", lost, extra={"message_id": message.envelope.message_id})

    async def _move(self, message: TaskbellMessage, error: Exception) -> bool:
        """Publishes a message that failed to ladder or dead letters; returns whether it lies there."""
        envelope = message.envelope
        if isinstance(error, Unavailable):
            return await self._publish(failures.postponed(envelope, message.body))
        if isinstance(error, RejectMessage):
            error = Never("rejected by its handler")
        move = failures.move(envelope, message.body, error)
        if move.to == "dead":
            self._outcome = Outcome("rejected" if isinstance(error, InvalidMessage) else "failed", reason=move.reason)
        return await self._publish(move.message)

    async def _publish(self, message: Outgoing) -> bool:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + HOLD
        while True:
            try:
                await send(self._ways[message.exchange], message)
            except (BrokerUnavailable, Unroutable) as error:
                _log.warning("message.held: %s", error, extra={"message_id": message.message_id})
            else:
                return True
            if loop.time() + PAUSE > deadline:
                return False
            await asyncio.sleep(PAUSE)

    async def _reply(self, message: TaskbellMessage, outcome: Outcome) -> None:
        """Sends the outcome, if somebody asked; whatever becomes of it, the message is settled."""
        reply = reply_to(message.envelope, outcome)
        if reply is None:
            return
        try:
            await send(self._ways[reply.exchange], reply)
        except (BrokerUnavailable, Unroutable) as error:
            _log.warning("reply.failed: %s", error, extra={"message_id": message.envelope.message_id})
