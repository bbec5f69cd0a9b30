"""Describes the fields of a message's body."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from taskbell.contracts import Contract

_FORMATS = {"date-time": "moment (RFC 3339)", "date": "date (YYYY-MM-DD)"}
_TYPES = {"integer": "integer", "number": "number", "boolean": "true or false", "string": "text", "null": "null"}


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a body."""

    name: str
    required: bool
    type: str


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
