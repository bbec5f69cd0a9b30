"""Bodies of scheduled messages: the payload from the file, with the time and zone that the scheduler adds."""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from taskbell.catalogue import catalogue
from taskbell.errors import InvalidMessage
from taskbell.spelling import did_you_mean

_OURS = ("occurrence", "timezone")


def with_occurrence(routing_key: str, payload: Mapping[str, Any], at: datetime, zone: str) -> dict[str, Any]:
    """The body of an occurrence: the payload, with those of time and zone that the contract has a field for."""
    ours = {"occurrence": rfc3339(at), "timezone": zone}
    return {**payload, **{field: ours[field] for field in _OURS if takes(routing_key, field)}}


def takes(routing_key: str, field: str) -> bool:
    """Whether that message's contract has that field."""
    return field in catalogue()[routing_key].contract.model_fields


def rfc3339(at: datetime) -> str:
    """An aware datetime as messages carry it, in UTC: `2026-11-20T07:00:00Z`."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def mistakes(routing_key: str, payload: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with a payload for that message, as its consumer would see it."""
    known = catalogue()[routing_key].contract.model_fields
    for field in payload:
        if field in _OURS:
            yield f"the scheduler fills in {field!r}; leave it out"
        elif field not in known:
            others = [name for name in known if name not in _OURS]
            yield f"{routing_key} has no field {field!r}{did_you_mean(field, others)}"
    body = with_occurrence(routing_key, payload, datetime(2026, 1, 1, tzinfo=UTC), "UTC")
    try:
        catalogue()[routing_key].contract.parse(json.dumps(body).encode())
    except InvalidMessage as error:
        yield from str(error).split("; ")
