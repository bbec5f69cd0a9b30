"""Whose a message_id is: it belongs to the message that came first, told by its routing key and its fields."""

import hashlib
import json

from taskbell.catalogue import message_of
from taskbell.contracts import Contract

ANOTHER = "this message_id was another message's"
"""Why a message is refused that comes under the message_id of another one."""

_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode


def digest_of(body: Contract) -> str:
    """SHA-256, in hexadecimal, of the message's routing key in the catalogue and of the fields that were given, sorted.

    A field that is null counts as not given, and so does one that the contract does not know. So the digest is the same
    whoever wrote the message down, and however. It is stored: its form is for ever.
    """
    given = _encode(body.model_dump(mode="json", exclude_unset=True, exclude_none=True))
    return hashlib.sha256(f"{message_of(body).routing_key}\0{given}".encode()).hexdigest()


def is_another(stored: str | None, digest: str) -> bool:
    """Whether a message with that digest is another one than the stored one; a row without a digest is anybody's."""
    return stored is not None and stored != digest
