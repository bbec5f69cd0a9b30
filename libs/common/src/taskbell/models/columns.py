"""Shorthands for columns of Taskbell's own tables."""

from typing import Any

from sqlalchemy import BigInteger, Column, DateTime, Identity, Text, text


def identity() -> Column[Any]:
    """A bigint primary key that the database generates."""
    return Column(BigInteger, Identity(always=True), primary_key=True)


def moment(*, required: bool = False, now: bool = False) -> Column[Any]:
    """A timestamptz; `now`: its default is the database's now()."""
    default = text("now()") if now else None
    return Column(DateTime(timezone=True), nullable=not (required or now), server_default=default)


def words(*, required: bool = True, key: bool = False, default: str | None = None) -> Column[Any]:
    """A text column."""
    return Column(Text, nullable=not required, primary_key=key, server_default=default)


def count() -> Column[Any]:
    """A bigint, 0 at first."""
    return Column(BigInteger, nullable=False, server_default="0")
