"""Declares the topology on RabbitMQ, and tries whether it takes messages that are too large."""

import asyncio

import aiormq

from taskbell.errors import BrokerUnavailable, SettingsError
from taskbell.messaging.topology import DEAD, Topology, topology
from taskbell.messaging.wire.connection import connected
from taskbell.messaging.wire.connection_errors import CONNECTION_ERRORS, connection_errors_named, in_words

LARGEST = 4 * 1024 * 1024
"""4 MiB, in bytes: `max_message_size` in the configurations of RabbitMQ that we ship."""

TRY_TIMEOUT = 10.0
"""Seconds for trying a message."""


async def takes(url: str, size: int) -> bool:
    """Whether RabbitMQ takes a message of so many bytes. It is published under a key that is not bound, so it is gone.

    Raises:
        BrokerUnavailable: RabbitMQ did not answer.
    """
    try:
        with connection_errors_named():
            async with asyncio.timeout(TRY_TIMEOUT), connected(url, "taskbell setup size") as connection:
                channel = await connection.confirming_channel()
                try:
                    await channel.basic_publish(bytes(size), exchange=DEAD, routing_key="taskbell.setup")
                except aiormq.exceptions.ChannelPreconditionFailed:
                    return False
                return True
    except TimeoutError:
        msg = f"RabbitMQ did not answer within {TRY_TIMEOUT:g} s"
        raise BrokerUnavailable(msg) from None
    except CONNECTION_ERRORS as error:
        raise BrokerUnavailable(f"RabbitMQ: {in_words(error)}") from error


async def declare(url: str) -> Topology:
    """Declares exchanges, queues and bindings. Those that already exist with the right arguments are unchanged.

    Raises:
        BrokerUnavailable: RabbitMQ does not answer.
        SettingsError: a queue or an exchange exists with other arguments, or this user may not configure it.
    """
    wanted = topology()
    try:
        with connection_errors_named():
            async with asyncio.timeout(60):
                async with connected(url, "taskbell setup") as connection:
                    channel = await connection.channel()
                    for exchange in wanted.exchanges:
                        await channel.exchange_declare(exchange.name, exchange_type=exchange.type, durable=True)
                    for queue in wanted.queues:
                        await channel.queue_declare(queue.name, durable=True, arguments=queue.arguments)
                    for binding in wanted.bindings:
                        await channel.queue_bind(binding.queue, binding.exchange, routing_key=binding.routing_key)
    except aiormq.exceptions.ChannelPreconditionFailed as error:
        msg = (
            f"RabbitMQ: {error}\nThat queue or exchange exists with other arguments, which cannot be changed. Drain "
            "it, delete it in the management UI, and run `taskbell setup` again."
        )
        raise SettingsError(msg) from error
    except aiormq.exceptions.ChannelAccessRefused as error:
        msg = f"RabbitMQ: {error}\nSet BROKER_URL to a user who may configure the virtual host."
        raise SettingsError(msg) from error
    except TimeoutError:
        msg = "RabbitMQ did not answer in time"
        raise BrokerUnavailable(msg) from None
    except CONNECTION_ERRORS as error:
        raise BrokerUnavailable(f"RabbitMQ: {in_words(error)}") from error
    return wanted
