"""The table of Taskbell's own messages; `taskbell.catalogue` has those of installed packages as well."""

from collections.abc import Mapping
from types import MappingProxyType

from taskbell.contracts import commands, events
from taskbell.contracts.base import Contract
from taskbell.contracts.message import COMMANDS, EVENTS, Message

_MESSAGES = (*events.MESSAGES, *commands.MESSAGES)

__all__ = ["CATALOGUE", "COMMANDS", "EVENTS", "OUR_ROWS", "Message"]

CATALOGUE: Mapping[str, Message] = MappingProxyType({message.routing_key: message for message in _MESSAGES})
"""Every message of ours by its routing key."""

OUR_ROWS: Mapping[type[Contract], Message] = MappingProxyType({message.contract: message for message in _MESSAGES})
"""Every message of ours by its contract."""
