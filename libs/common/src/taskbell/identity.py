"""Whose a message_id is: it belongs to the message that came first, told by its routing key and its fields."""

import hashlib
import json
from typing import NamedTuple

from taskbell.catalogue import message_of
from taskbell.contracts import Contract

ANOTHER = "this message_id was another message's"
"""Why a message is refused that comes under the message_id of another one."""

_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode


class Identity(NamedTuple):
    """What a message says, and its digest."""

    fields: str
    """JSON of the fields that were given, sorted. One that is null counts as not given."""
    digest: str
    """SHA-256, in hexadecimal, of the message's routing key in the catalogue and of `fields`."""


def identity_of(body: Contract) -> Identity:
    """The same for a message whoever wrote it down, and however. Digests are stored: their form is for ever."""
    fields = _encode(body.model_dump(mode="json", exclude_unset=True, exclude_none=True))
    return Identity(fields, hashlib.sha256(f"{message_of(body).routing_key}\0{fields}".encode()).hexdigest())


def digest_of(body: Contract) -> str:
    """The digest of a message."""
    return identity_of(body).digest


def is_another(stored: str | None, digest: str) -> bool:
    """Whether a message with that digest is another one than the stored one; a row without a digest is anybody's."""
    return stored is not None and stored != digest
