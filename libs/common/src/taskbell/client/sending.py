"""Publishing for a caller who waits: within the caller's time limit, with the message_id on every error."""

import asyncio

from aiormq.channel import Channel

from taskbell.errors import BrokerUnavailable, PublishTimeout, TopologyMissing, Unroutable
from taskbell.messaging.publishing.outgoing import Outgoing
from taskbell.messaging.publishing.publisher import Publisher


async def send(publisher: Publisher, message: Outgoing, limit: float) -> Channel:
    """Publishes and waits for the confirm; returns the channel on which the message was sent.

    If the connection turns out to be lost, the message is sent once more over a new one. Its message_id is the same, so
    it takes effect once even if the first try arrived.

    Raises:
        BrokerUnavailable, PublishTimeout, TopologyMissing, Unroutable: each has the message_id.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + limit
    try:
        try:
            return await publisher.send(message, timeout=limit)
        except (PublishTimeout, TopologyMissing):
            raise
        except BrokerUnavailable:
            left = deadline - loop.time()
            if left <= 0:
                raise
            return await publisher.send(message, timeout=left)
    except (BrokerUnavailable, Unroutable) as error:
        error.message_id = message.message_id
        raise
