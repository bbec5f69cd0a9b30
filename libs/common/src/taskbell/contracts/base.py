"""What every message body has in common."""

from datetime import UTC, datetime
from typing import Annotated, Self

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from taskbell.errors import InvalidMessage
from taskbell.zones import zone_named

MAX_BODY_BYTES = 2 * 1024 * 1024
"""2 MiB, in bytes. A larger body is refused before it is parsed."""

_EARLIEST = datetime(1970, 1, 2, tzinfo=UTC)
_LATEST = datetime(2200, 1, 1, tzinfo=UTC)


def _no_nul(text: str) -> str:
    if "\x00" in text:
        msg = "must not contain the character U+0000, which PostgreSQL cannot store"
        raise ValueError(msg)
    return text


def _utc(moment: datetime) -> datetime:
    if not _EARLIEST <= moment < _LATEST:
        msg = "must lie between 1970-01-02 and 2200-01-01"
        raise ValueError(msg)
    return moment.astimezone(UTC)


def _known_zone(name: str) -> str:
    return zone_named(name).key


Id = Annotated[int, Field(ge=1, le=2**63 - 1)]
"""A row's id in the web app's or Taskbell's tables."""

Text = Annotated[str, Field(max_length=1000), AfterValidator(_no_nul)]
"""A short text that PostgreSQL can store."""

Moment = Annotated[AwareDatetime, AfterValidator(_utc)]
"""An instant: RFC 3339 with an offset on the wire, an aware datetime in UTC in Python."""

ZoneName = Annotated[str, Field(max_length=100), AfterValidator(_known_zone)]
"""The name of an IANA zone that `resolve_zone` knows."""


class Contract(BaseModel):
    """A message body: frozen, strict, and tolerant of fields that it does not know."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore", allow_inf_nan=False)

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """Reads a body from its raw bytes, whatever its content_type says.

        Raises:
            InvalidMessage: it does not validate. The error names the mistakes, each with its field, in one line.
        """
        if len(body) > MAX_BODY_BYTES:
            msg = f"body of {len(body)} bytes is larger than {MAX_BODY_BYTES}"
            raise InvalidMessage(msg)
        try:
            return cls.model_validate_json(body)
        except ValidationError as error:
            raise InvalidMessage(describe(error)) from None

    def to_bytes(self) -> bytes:
        """The body as it is sent: UTF-8 JSON, without the fields that were not set."""
        return self.model_dump_json(exclude_unset=True).encode()


def describe(error: ValidationError) -> str:
    """What is wrong with a body, field by field, without repeating what was sent."""
    mistakes = []
    for mistake in error.errors(include_url=False, include_input=False, include_context=False)[:10]:
        field = ".".join(str(part) for part in mistake["loc"])
        what = mistake["msg"].removeprefix("Value error, ")
        mistakes.append(f"{field}: {what}" if field else what)
    return "; ".join(mistakes)[:1000]
