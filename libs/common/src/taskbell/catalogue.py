"""Every message that there is: ours, and those of installed packages."""

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType

from taskbell import extensions
from taskbell.contracts import CATALOGUE, Contract, Message


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
    """The catalogue's row of a contract. Raises KeyError if it is not a message's."""
    return _by_contract()[contract]


def message_of(body: Contract) -> Message:
    """The catalogue's row of a body. Raises KeyError if its class is not a message's contract."""
    return _by_contract()[type(body)]
