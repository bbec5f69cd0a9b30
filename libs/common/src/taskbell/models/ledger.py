"""The ledger: every mailing, every mail of it, and what became of it (docs/guarantee.md, "A delivery's life")."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Index,
    Integer,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field

from taskbell.models.columns import count, identity, moment, words
from taskbell.models.own import OwnModel


class Mailing(OwnModel, table=True):
    """One mailing: one message_id, however often that message is delivered."""

    __tablename__ = "mailing"
    __table_args__ = (
        CheckConstraint("state IN ('planning', 'sending', 'completed', 'cancelled')", name="state"),
        Index("mailing_open_idx", "id", postgresql_where=text("completed_at IS NULL")),
        Index("mailing_joined_idx", "kind", "body_digest", "inserted_at"),
    )

    id: int | None = Field(default=None, sa_column=identity())
    message_id: str = Field(sa_column=Column(words().type, nullable=False, unique=True))
    kind: str = Field(sa_column=words())
    occurrence: datetime | None = Field(sa_column=moment())
    """null: a manual one."""
    at: datetime = Field(sa_column=moment(now=True))
    """T: the occurrence, or when the row was inserted."""
    timezone: str | None = Field(sa_column=words(required=False))
    user_ids: list[int] | None = Field(sa_column=Column(ARRAY(BigInteger)))
    force: bool = Field(sa_column=Column(Boolean, nullable=False, server_default="false"))
    props: dict[str, Any] | None = Field(sa_column=Column(JSONB))
    """What the mails of a report or a test need to know: {"date": …}."""
    body_digest: str = Field(sa_column=words())
    """SHA-256 of key and body: a redelivered message without an id joins by it."""
    state: str = Field(sa_column=words(default="planning"))
    cursor: int = Field(sa_column=count())
    """The last user id that was planned."""
    planned: int = Field(sa_column=count())
    already: int = Field(sa_column=count())
    """Recipients that had their row of this period before."""
    first_delivery: int | None = Field(sa_column=Column(BigInteger))
    last_delivery: int | None = Field(sa_column=Column(BigInteger))
    """Between these ids lie all its deliveries, besides those of mailings planned at the same time."""
    counts: dict[str, Any] | None = Field(sa_column=Column(JSONB))
    note: str | None = Field(sa_column=words(required=False))
    inserted_at: datetime = Field(sa_column=moment(now=True))
    planned_at: datetime | None = Field(sa_column=moment())
    completed_at: datetime | None = Field(sa_column=moment())


class Delivery(OwnModel, table=True):
    """One mail to one recipient: the row is the right to send it."""

    __tablename__ = "delivery"
    __table_args__ = (
        UniqueConstraint("kind", "recipient", "period", "run", name="delivery_once_key"),
        CheckConstraint(
            "state IN ('planned', 'sending', 'retry', 'unknown', 'sent', 'skipped', 'suppressed', 'expired', 'failed')",
            name="state",
        ),
        CheckConstraint("phase IN ('envelope', 'data')", name="phase"),
        # Claim and data marker change no column that is in an index, so that they can stay on their page.
        Index("delivery_open_idx", "mailing_id", "due_at", postgresql_where=text("ended_at IS NULL")),
        Index("delivery_ended_idx", "ended_at", postgresql_where=text("ended_at IS NOT NULL")),
        {"postgresql_with": {"fillfactor": 70}},  # three updates a row that stay on its page
    )

    id: int | None = Field(default=None, sa_column=identity())
    mailing_id: int = Field(sa_column=Column(BigInteger, nullable=False))
    """No foreign key: it would be checked row by row while a million are planned, and only pruning deletes mailings."""
    kind: str = Field(sa_column=words())
    recipient: str = Field(sa_column=words())
    """`user:ID` or `address:ADDR`."""
    user_id: int | None = Field(sa_column=Column(BigInteger))
    period: str = Field(sa_column=words())
    run: int = Field(sa_column=Column(Integer, nullable=False, server_default="0"))
    state: str = Field(sa_column=words(default="planned"))
    phase: str | None = Field(sa_column=words(required=False))
    """While it is sent: envelope, before the first byte of the message may have gone; data, after."""
    claim: UUID | None = Field(sa_column=Column(Uuid))
    lease_until: datetime | None = Field(sa_column=moment())
    attempts: int = Field(sa_column=Column(Integer, nullable=False, server_default="0"))
    resends: int = Field(sa_column=Column(Integer, nullable=False, server_default="0"))
    """Submissions after an unknown outcome: never more than one."""
    cut_offs: int = Field(sa_column=Column(Integer, nullable=False, server_default="0"))
    """How often its process died, or stalled, before the data."""
    unknown_at: datetime | None = Field(sa_column=moment())
    """When its outcome first became unknown; null: it never was."""
    next_attempt_at: datetime | None = Field(sa_column=moment())
    """It is not tried before then."""
    due_at: datetime = Field(sa_column=moment(required=True))
    """When a sweeper looks at it next, unless it has ended before."""
    expires_at: datetime = Field(sa_column=moment(required=True))
    address: str | None = Field(sa_column=words(required=False))
    """Where it went, or was to go."""
    mail_message_id: str | None = Field(sa_column=words(required=False))
    """The Message-ID, stored before the first try and the same on every try."""
    reason: str | None = Field(sa_column=words(required=False))
    """Why it ended, or why it waits, in words for an operator."""
    created_at: datetime = Field(sa_column=moment(now=True))
    queued_at: datetime = Field(sa_column=moment(now=True))
    """When a send_batch message was last written for it."""
    ended_at: datetime | None = Field(sa_column=moment())


class Preference(OwnModel, table=True):
    """Whether a person wants a kind of mail; no row: yes."""

    __tablename__ = "preference"

    user_id: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    kind: str = Field(sa_column=words(key=True))
    enabled: bool = Field(sa_column=Column(Boolean, nullable=False))
    source: str | None = Field(sa_column=words(required=False))
    updated_at: datetime = Field(sa_column=moment(now=True))


class Suppression(OwnModel, table=True):
    """An address that bounced hard; nothing is sent to it until an operator lifts it."""

    __tablename__ = "suppression"

    address: str = Field(sa_column=words(key=True))
    """Lower case."""
    reason: str = Field(sa_column=words())
    delivery_id: int | None = Field(sa_column=Column(BigInteger))
    created_at: datetime = Field(sa_column=moment(now=True))
