"""The catalogue of all messages: ours, and those of installed packages."""

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType

from taskbell import extensions
from taskbell.contracts import CATALOGUE, Contract, Message
from taskbell.contracts.catalogue import OUR_ROWS


@lru_cache(maxsize=1)
def catalogue() -> Mapping[str, Message]:
    """Every message by its routing key.

    Raises:
        ExtensionError: an installed package offers something that cannot be used.
    """
    found = {**CATALOGUE}
    for package in extensions.installed():
        found |= {message.routing_key: message for message in package.extension.messages}
    return MappingProxyType(found)


@lru_cache(maxsize=1)
def _by_contract() -> Mapping[type[Contract], Message]:
    return {message.contract: message for message in catalogue().values()}


def row_of(contract: type[Contract]) -> Message:
    """The catalogue's row of a contract. Raises KeyError if it is not the contract of any message.

    For our own messages no package is loaded: a web app can publish them whatever else is installed beside it.
    """
    return OUR_ROWS.get(contract) or _by_contract()[contract]


def message_of(body: Contract) -> Message:
    """The catalogue's row of a body. Raises KeyError if its class is not the contract of any message."""
    return row_of(type(body))


@lru_cache(maxsize=1)
def _by_queue() -> Mapping[str, str]:
    return {message.queue: message.routing_key for message in catalogue().values() if message.queue is not None}


def key_of_queue(queue: str) -> str | None:
    """The routing key of the message that this queue is for; None: it is the queue of no message of the catalogue."""
    return _by_queue().get(queue)


def package_of(routing_key: str) -> str:
    """The name of the package that brings a message; OURS if Taskbell does.

    Raises:
        KeyError: no message has that routing key.
    """
    return _packages()[routing_key]


@lru_cache(maxsize=1)
def _packages() -> Mapping[str, str]:
    found = dict.fromkeys(CATALOGUE, extensions.OURS)
    for package in extensions.installed():
        found |= {message.routing_key: package.package for message in package.extension.messages}
    return found
