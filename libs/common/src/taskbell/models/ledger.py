"""The ledger: every mailing, each of its mails, and how the mail ended (docs/guarantee.md, "A delivery's life")."""

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
    """null: a manual event started it."""
    at: datetime = Field(sa_column=moment(now=True))
    """T: the occurrence; for a manual mailing, the time at which the row was inserted."""
    timezone: str | None = Field(sa_column=words(required=False))
    user_ids: list[int] | None = Field(sa_column=Column(ARRAY(BigInteger)))
    force: bool = Field(sa_column=Column(Boolean, nullable=False, server_default="false"))
    props: dict[str, Any] | None = Field(sa_column=Column(JSONB))
    """What the mails of a report or a test are made from: {"date": …}."""
    body_digest: str = Field(sa_column=words())
    """SHA-256 of routing key and body: by it a redelivered message without an id finds this mailing."""
    digest: str | None = Field(sa_column=words(required=False))
    """Whose the message_id is (`taskbell.identity`); null in rows of former versions: of whoever asks."""
    state: str = Field(sa_column=words(default="planning"))
    cursor: int = Field(sa_column=count())
    """The last user id that was planned."""
    planned: int = Field(sa_column=count())
    already: int = Field(sa_column=count())
    """Recipients whose row of this period existed before."""
    first_delivery: int | None = Field(sa_column=Column(BigInteger))
    last_delivery: int | None = Field(sa_column=Column(BigInteger))
    """All its deliveries have ids in this range; so may deliveries of mailings that were planned at the same time."""
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
        # Claim and data marker change no indexed column, so that these updates can stay on their page (HOT).
        Index("delivery_open_idx", "mailing_id", "due_at", postgresql_where=text("ended_at IS NULL")),
        Index("delivery_ended_idx", "ended_at", postgresql_where=text("ended_at IS NOT NULL")),
        {"postgresql_with": {"fillfactor": 70}},  # room for three updates of each row on its page
    )

    id: int | None = Field(default=None, sa_column=identity())
    mailing_id: int = Field(sa_column=Column(BigInteger, nullable=False))
    """No foreign key: it would be checked for each row of a mailing of a million, and only pruning deletes mailings."""
    kind: str = Field(sa_column=words())
    recipient: str = Field(sa_column=words())
    """`user:ID` or `address:ADDR`."""
    user_id: int | None = Field(sa_column=Column(BigInteger))
    period: str = Field(sa_column=words())
    run: int = Field(sa_column=Column(Integer, nullable=False, server_default="0"))
    state: str = Field(sa_column=words(default="planned"))
    phase: str | None = Field(sa_column=words(required=False))
    """Set while the mail is being sent. envelope: no byte of the message has been sent; data: some may have been."""
    claim: UUID | None = Field(sa_column=Column(Uuid))
    lease_until: datetime | None = Field(sa_column=moment())
    attempts: int = Field(sa_column=Column(Integer, nullable=False, server_default="0"))
    resends: int = Field(sa_column=Column(Integer, nullable=False, server_default="0"))
    """Submissions after an unknown outcome: never more than one."""
    cut_offs: int = Field(sa_column=Column(Integer, nullable=False, server_default="0"))
    """How often its process died or stalled before the phase data."""
    unknown_at: datetime | None = Field(sa_column=moment())
    """When its outcome first became unknown; null: it never was."""
    next_attempt_at: datetime | None = Field(sa_column=moment())
    """The mail is not tried before then."""
    due_at: datetime = Field(sa_column=moment(required=True))
    """When the sweeper checks the row next, unless it has ended by then."""
    expires_at: datetime = Field(sa_column=moment(required=True))
    address: str | None = Field(sa_column=words(required=False))
    """The address that the mail went to, or was to go to."""
    mail_message_id: str | None = Field(sa_column=words(required=False))
    """The Message-ID, stored before the first try and the same on every try."""
    message_token: str | None = Field(
        sa_column=Column(words().type, server_default=text("replace((gen_random_uuid())::text, '-'::text, ''::text)"))
    )
    """The unguessable part of the Message-ID: 122 random bits in hexadecimal, made when the row is planned.

    null: the row is older than this column, and its Message-ID has no such part."""
    reason: str | None = Field(sa_column=words(required=False))
    """Why it ended, or what it waits for, in words for an operator."""
    created_at: datetime = Field(sa_column=moment(now=True))
    queued_at: datetime = Field(sa_column=moment(now=True))
    """When a send_batch message was last written for it."""
    ended_at: datetime | None = Field(sa_column=moment())


class Preference(OwnModel, table=True):
    """Whether a person wants a kind of mail. Without a row, they do."""

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
    """In lower case."""
    reason: str = Field(sa_column=words())
    delivery_id: int | None = Field(sa_column=Column(BigInteger))
    created_at: datetime = Field(sa_column=moment(now=True))


class Answering(OwnModel, table=True):
    """A time in which notifiers saw PostgreSQL answer, again and again; it outlives each of them."""

    __tablename__ = "answering"

    since: datetime = Field(sa_column=moment(now=True))
    until: datetime = Field(sa_column=moment(now=True))
    id: int | None = Field(default=None, sa_column=identity())


class AwaitedCommand(OwnModel, table=True):
    """A command whose outcome is that of a mail which has not ended; whoever asks again is answered besides."""

    __tablename__ = "awaited_command"

    message_id: str = Field(sa_column=words(key=True))
    reply_to: str = Field(sa_column=words(key=True))
    """Empty: nobody asked for a reply."""
    correlation_id: str = Field(sa_column=words(key=True))
    """Empty: it has none."""
    delivery_id: int = Field(sa_column=Column(BigInteger, nullable=False))
    envelope: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))
    body: str = Field(sa_column=words())
    reason: str | None = Field(sa_column=words(required=False))
    """What the mail waits for, in words for whoever asked."""
    received_at: datetime = Field(sa_column=moment(now=True))


class Refusal(OwnModel, table=True):
    """A refusal of a mail by the mail server, until it is known if it was the recipient's fault."""

    __tablename__ = "refusal"

    delivery_id: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    person: str = Field(sa_column=words())
    """The address, in lower case."""
    said: str = Field(sa_column=words())
    """What the refusal has in common with the same to others."""
    reason: str = Field(sa_column=words())
    """As the ledger has it."""
    refused_at: datetime = Field(sa_column=moment(now=True))
    held_at: datetime | None = Field(sa_column=moment())
    """Since when sending is paused for these words; null: too few have met them."""
