"""Column shorthands that every table of Taskbell's own uses."""

from typing import Any

from sqlalchemy import BigInteger, Column, DateTime, Identity, Text, text


def identity() -> Column[Any]:
    """A bigint primary key that the database numbers."""
    return Column(BigInteger, Identity(always=True), primary_key=True)


def moment(*, required: bool = False, now: bool = False) -> Column[Any]:
    """A timestamptz; `now`: filled by the database's clock."""
    default = text("now()") if now else None
    return Column(DateTime(timezone=True), nullable=not (required or now), server_default=default)


def words(*, required: bool = True, key: bool = False, default: str | None = None) -> Column[Any]:
    """A text."""
    return Column(Text, nullable=not required, primary_key=key, server_default=default)


def count() -> Column[Any]:
    """A number of things, 0 at first."""
    return Column(BigInteger, nullable=False, server_default="0")
