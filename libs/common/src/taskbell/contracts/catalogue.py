"""The table of all messages, from which topology, publishing, documentation and the command line are made."""

from collections.abc import Mapping
from types import MappingProxyType

from taskbell.contracts import commands, events
from taskbell.contracts.base import Contract
from taskbell.contracts.message import COMMANDS, EVENTS, Message

_MESSAGES = (*events.MESSAGES, *commands.MESSAGES)

__all__ = ["CATALOGUE", "COMMANDS", "EVENTS", "Message"]

CATALOGUE: Mapping[str, Message] = MappingProxyType({message.routing_key: message for message in _MESSAGES})
"""Every message by its routing key."""

OUR_ROWS: Mapping[type[Contract], Message] = MappingProxyType({message.contract: message for message in _MESSAGES})
"""Every message by its contract."""
