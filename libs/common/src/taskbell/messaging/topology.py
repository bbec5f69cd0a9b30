"""Exchanges, queues and bindings as data, made from the catalogue of messages and from what packages listen to.

`taskbell setup` declares them; a running service never does. Every argument is written out, because RabbitMQ 3.10 and
4.x differ in their defaults, and arguments of an existing queue cannot be changed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from taskbell.catalogue import catalogue, row_of
from taskbell.contracts import COMMANDS, EVENTS, Contract
from taskbell.extensions import installed

DEAD = "taskbell.dead"
"""Direct exchange of the dead letters; the key is the dead queue's name."""

RETRIES = (("taskbell.retry.10s", 10), ("taskbell.retry.1m", 60), ("taskbell.retry.10m", 600))
"""The retry ladder: fanout exchange and seconds. The routing key is the queue to which the message returns."""

DELIVERY_LIMIT = 20
"""Returns after which RabbitMQ itself dead-letters: shutdowns and lost connections count too, so not 3."""

DEAD_DELIVERY_LIMIT = 1_000_000
"""Looking at dead letters returns them; RabbitMQ 4 would drop them after 20 looks, 3.10 knows no -1."""

CONSUMERS = ("notifier", "maintenance")
"""Our services that consume."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """A durable exchange."""

    name: str
    type: str


@dataclass(frozen=True, slots=True)
class Queue:
    """A quorum queue with its arguments."""

    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Binding:
    """A queue bound to an exchange by a key."""

    exchange: str
    queue: str
    routing_key: str


@dataclass(frozen=True, slots=True)
class Topology:
    """All that must exist on the broker, in the order of declaration.

    Dead letters and retries come first: RabbitMQ discards what it dead-letters into a queue that is not there.
    """

    exchanges: tuple[Exchange, ...]
    queues: tuple[Queue, ...]
    bindings: tuple[Binding, ...]


def dead_queue(service: str) -> str:
    """The queue of a service's dead letters."""
    return f"{service}.dead"


def service_of(queue: str) -> str:
    """The service whose queue that is."""
    return queue.partition(".")[0]


def consumers() -> tuple[str, ...]:
    """Every service that consumes: ours, and those of installed packages."""
    return (*CONSUMERS, *(service for package in installed() for service in package.services))


def _quorum(limit: int) -> dict[str, Any]:
    return {"x-queue-type": "quorum", "x-delivery-limit": limit, "x-overflow": "reject-publish"}


def _dead_letters_to(exchange: str) -> dict[str, Any]:
    # At-least-once needs reject-publish, and on 3.10 the feature flag stream_queue.
    return {"x-dead-letter-exchange": exchange, "x-dead-letter-strategy": "at-least-once"}


def topology() -> Topology:
    """The topology of this version and of the packages that are installed."""
    queues = [Queue(dead_queue(service), _quorum(DEAD_DELIVERY_LIMIT)) for service in consumers()]
    bindings = [Binding(DEAD, queue.name, queue.name) for queue in queues]
    for name, seconds in RETRIES:
        # To the default exchange, without a key: the message's own key, the origin queue's name, leads it home.
        arguments = _quorum(DEAD_DELIVERY_LIMIT) | _dead_letters_to("") | {"x-message-ttl": seconds * 1000}
        queues.append(Queue(name, arguments))
        bindings.append(Binding(name, name, ""))
    for binding in _consumed():
        arguments = _quorum(DELIVERY_LIMIT) | _dead_letters_to(DEAD)
        arguments["x-dead-letter-routing-key"] = dead_queue(service_of(binding.queue))
        queues.append(Queue(binding.queue, arguments))
        bindings.append(binding)
    exchanges = (
        Exchange(DEAD, "direct"),
        *(Exchange(name, "fanout") for name, _ in RETRIES),
        Exchange(EVENTS, "topic"),
        Exchange(COMMANDS, "topic"),
    )
    return Topology(exchanges, tuple(queues), tuple(bindings))


def binding_of(queue: str, contract: type[Contract]) -> Binding:
    """How messages of a contract come to that queue. Raises KeyError if the contract is not that of any message."""
    row = row_of(contract)
    return Binding(row.exchange, queue, row.routing_key)


def _consumed() -> Iterator[Binding]:
    """The queue of each message that is consumed, and of each event that a package listens to."""
    messages = catalogue()
    for message in messages.values():
        if message.queue is not None:
            yield Binding(message.exchange, message.queue, message.routing_key)
    for package in installed():
        for listen in package.extension.listens:
            yield Binding(messages[listen.routing_key].exchange, listen.queue, listen.routing_key)
