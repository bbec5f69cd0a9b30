"""Reads bodies that people type, and describes their fields."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from taskbell.contracts import Contract, Message
from taskbell.errors import InvalidMessage, Mistake
from taskbell.spelling import did_you_mean

_FORMATS = {"date-time": "moment (RFC 3339)", "date": "date (YYYY-MM-DD)"}
_TYPES = {"integer": "integer", "number": "number", "boolean": "true or false", "string": "text", "null": "null"}


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a body."""

    name: str
    required: bool
    type: str


def read_body(message: Message, typed: str) -> Contract:
    """The body of that message, as somebody has typed it.

    Raises:
        Mistake: it does not validate, or has a field that the message does not have. Services ignore those, but if a
            person types one it is a mistake: with `user_id` for `user_ids` everybody would be mailed.
    """
    key, contract = message.routing_key, message.contract
    try:
        body = contract.parse(typed.encode())
    except InvalidMessage as error:
        msg = f"{key}: {error}. `taskbell messages` lists the fields"
        raise Mistake(msg) from None
    for field in json.loads(typed):
        if field not in contract.model_fields:
            msg = f"{key} has no field {field!r}{did_you_mean(field, contract.model_fields)}"
            raise Mistake(msg)
    return body


def fields_of(contract: type[Contract]) -> list[Field]:
    """The fields, required ones first."""
    schema = contract.model_json_schema()
    required = set(schema.get("required", ()))
    fields = [
        Field(name, name in required, _words(field, schema.get("$defs", {})))
        for name, field in schema.get("properties", {}).items()
    ]
    return sorted(fields, key=lambda field: not field.required)


def _words(field: Mapping[str, Any], shared: Mapping[str, Any]) -> str:
    if "$ref" in field:
        return _words(shared[field["$ref"].rpartition("/")[2]], shared)
    if "anyOf" in field:
        return " or ".join(_words(choice, shared) for choice in field["anyOf"])
    if "enum" in field:
        return " | ".join(map(str, field["enum"]))
    if "const" in field:
        return str(field["const"])
    if field.get("type") == "array":
        most = f", at most {field['maxItems']}" if "maxItems" in field else ""
        return f"list of {_words(field.get('items', {}), shared)}{most}"
    if field.get("type") == "object":
        values = field.get("additionalProperties")
        return f"object of {_words(values, shared)}" if isinstance(values, Mapping) else "object"
    return _FORMATS.get(field.get("format", "")) or _TYPES.get(field.get("type", ""), "any")
