"""Taskbell's own tables, schema `taskbell`: schedules, outbox, commands, reports and the archive.

The ledger of mailings is in `ledger.py`. The services write rows by set-based SQL in their `repository`; these classes
define names and types, and a test compares the migrations with them.
"""

import datetime as dt
from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    Index,
    MetaData,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.sql.elements import conv
from sqlmodel import Field, SQLModel

from taskbell.models.columns import count, identity, moment, words

OWN = "taskbell"
"""The schema of Taskbell's own tables."""


class OwnModel(SQLModel):
    """A table that belongs to Taskbell."""

    metadata: ClassVar[MetaData] = MetaData(
        schema=OWN,
        naming_convention={
            "ck": "%(table_name)s_%(constraint_name)s_check",
            "fk": "%(table_name)s_%(column_0_name)s_fkey",
            "ix": "%(table_name)s_%(column_0_name)s_idx",
            "pk": "%(table_name)s_pkey",
            "uq": "%(table_name)s_%(column_0_name)s_key",
        },
    )


class ScheduleState(OwnModel, table=True):
    """How far a schedule has come in a zone: occurrences up to `position` are recorded."""

    __tablename__ = "schedule_state"

    schedule: str = Field(sa_column=words(key=True))
    zone: str = Field(sa_column=words(key=True))
    cron: str = Field(sa_column=words(default=""))
    """The cron expression that `position` belongs to; with another one the schedule starts anew. Empty: any."""
    position: datetime = Field(sa_column=moment(required=True))
    active: bool = Field(sa_column=Column(Boolean, nullable=False, server_default="true"))
    """False while the schedule or the zone is not in use. When it is used again, it starts at that time."""
    paused: bool = Field(sa_column=Column(Boolean, nullable=False, server_default="false"))
    paused_at: datetime | None = Field(sa_column=moment())
    resumed_at: datetime | None = Field(sa_column=moment())
    generation: int = Field(sa_column=count())
    """If two schedulers have different files, the one with the higher generation, which started last, decides."""
    note: str | None = Field(sa_column=words(required=False))
    updated_at: datetime = Field(sa_column=moment(now=True))


class Occurrence(OwnModel, table=True):
    """How each occurrence ended. The primary key lets only one scheduler record it (the fence)."""

    __tablename__ = "occurrence"
    __table_args__ = (
        CheckConstraint("status IN ('published', 'missed', 'paused')", name="status"),
        Index(None, "recorded_at"),
        Index("occurrence_history_idx", "schedule", "at"),
    )

    schedule: str = Field(sa_column=words(key=True))
    zone: str = Field(sa_column=words(key=True))
    key: str = Field(sa_column=words(key=True))
    at: datetime = Field(sa_column=moment(required=True))
    status: str = Field(sa_column=words())
    occurrences: int = Field(sa_column=Column(BigInteger, nullable=False, server_default="1"))
    """How many occurrences this row stands for: more than 1 only in the row that sums up those beyond the limit."""
    reason: str | None = Field(sa_column=words(required=False))
    """Why it was missed or paused."""
    message_id: str | None = Field(sa_column=words(required=False))
    recorded_at: datetime = Field(sa_column=moment(now=True))


class Outbox(OwnModel, table=True):
    """Messages committed with the change that they report, for the relay to publish."""

    __tablename__ = "outbox"
    __table_args__ = (
        CheckConstraint("owner IN ('scheduler', 'notifier', 'maintenance', 'app')", name="owner"),
        Index("outbox_waiting_idx", "owner", "id", postgresql_where=text("published_at IS NULL")),
        Index("outbox_published_idx", "owner", "published_at", postgresql_where=text("published_at IS NOT NULL")),
        Index("outbox_wire_id_idx", "wire_id", postgresql_where=text("wire_id IS NOT NULL")),
    )

    id: int | None = Field(default=None, sa_column=identity())
    owner: str = Field(sa_column=words())
    routing_key: str = Field(sa_column=words())
    body: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))
    message_id: str = Field(sa_column=Column(words().type, nullable=False, unique=True))
    """The row's own: unique over all owners, because processes of the former version rely on that."""
    wire_id: str | None = Field(sa_column=words(required=False))
    """The message_id to publish it under, if another row has that; null: its own."""
    correlation_id: str | None = Field(sa_column=words(required=False))
    traceparent: str | None = Field(sa_column=words(required=False))
    created_at: datetime = Field(sa_column=moment(now=True))
    not_before: datetime | None = Field(sa_column=moment())
    """Set when a try failed: the next try is not before then."""
    attempts: int = Field(sa_column=count())
    last_error: str | None = Field(sa_column=words(required=False))
    published_at: datetime | None = Field(sa_column=moment())


class Command(OwnModel, table=True):
    """A command's outcome by its message_id, so that the command takes effect once.

    Whoever reads this table also reads the rows of `refused_command`, which inherits from it; ONLY leaves them out.
    """

    __tablename__ = "command"
    __table_args__ = (
        CheckConstraint("state IN ('done', 'unchanged', 'rejected', 'failed')", name="state"),
        Index(None, "finished_at"),
    )

    message_id: str = Field(sa_column=words(key=True))
    routing_key: str = Field(sa_column=words())
    body: dict[str, Any] | None = Field(sa_column=Column(JSONB))
    """null only in rows of former versions: the body did not validate, and the message_id is nobody's."""
    digest: str | None = Field(sa_column=words(required=False))
    """Whose the message_id is (`taskbell.identity`); null in rows of former versions: of whoever asks."""
    state: str = Field(sa_column=words())
    result: dict[str, Any] | None = Field(sa_column=Column(JSONB))
    reason: str | None = Field(sa_column=words(required=False))
    attempts: int = Field(sa_column=Column(BigInteger, nullable=False, server_default="1"))
    correlation_id: str | None = Field(sa_column=words(required=False))
    received_at: datetime = Field(sa_column=moment(now=True))
    finished_at: datetime = Field(sa_column=moment(now=True))


class RefusedCommand(OwnModel, table=True):
    """A command that takes no message_id: its body did not validate, or its message_id was another message's.

    The table inherits from `command`.
    """

    __tablename__ = "refused_command"
    __table_args__ = (
        CheckConstraint("state IN ('done', 'unchanged', 'rejected', 'failed')", name=conv("command_state_check")),
        Index(None, "message_id"),
        Index(None, "finished_at"),
    )

    key: str = Field(sa_column=words(key=True))
    """Made from message_id, queue, reason and digest, so that a message that comes again is the same row."""
    message_id: str = Field(sa_column=words())
    routing_key: str = Field(sa_column=words())
    body: dict[str, Any] | None = Field(sa_column=Column(JSONB))
    """null if it did not validate."""
    digest: str | None = Field(sa_column=words(required=False))
    """null if the body did not validate."""
    state: str = Field(sa_column=words())
    result: dict[str, Any] | None = Field(sa_column=Column(JSONB))
    reason: str | None = Field(sa_column=words(required=False))
    attempts: int = Field(sa_column=Column(BigInteger, nullable=False, server_default="1"))
    correlation_id: str | None = Field(sa_column=words(required=False))
    received_at: datetime = Field(sa_column=moment(now=True))
    finished_at: datetime = Field(sa_column=moment(now=True))


class Report(OwnModel, table=True):
    """The daily report of a date."""

    __tablename__ = "report"

    date: dt.date = Field(sa_column=Column(Date, primary_key=True))
    as_of: datetime = Field(sa_column=moment(required=True))
    body: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))
    message_id: str = Field(sa_column=words())
    generated_at: datetime = Field(sa_column=moment(now=True))


class ArchiveBatch(OwnModel, table=True):
    """One cleanup. If its process is killed, the redelivered command continues in this batch."""

    __tablename__ = "archive_batch"
    __table_args__ = (CheckConstraint("mode IN ('archive', 'delete')", name="mode"),)

    id: int | None = Field(default=None, sa_column=identity())
    message_id: str = Field(sa_column=Column(words().type, nullable=False, unique=True))
    body: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))
    """The command's body: by it a redelivered command without a message_id finds its batch."""
    mode: str = Field(sa_column=words())
    cutoff: datetime = Field(sa_column=moment(required=True))
    cursor: int = Field(sa_column=count())
    """The last task id that was examined."""
    tasks: int = Field(sa_column=count())
    held: int = Field(sa_column=count())
    held_ids: list[int] = Field(sa_column=Column(ARRAY(BigInteger), nullable=False, server_default="{}"))
    """The first ids of held tasks; `held` counts all of them."""
    held_reasons: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False, server_default="{}"))
    """The first distinct reasons why tasks are held."""
    restored: int = Field(sa_column=count())
    """How many of its tasks were restored."""
    started_at: datetime = Field(sa_column=moment(now=True))
    finished_at: datetime | None = Field(sa_column=moment())


class ArchivedTask(OwnModel, table=True):
    """A whole row of the app's tasks, as jsonb, including columns that Taskbell does not know.

    No foreign key and no second index: batches are never deleted, and both would slow down large cleanups.
    """

    __tablename__ = "archived_task"

    batch_id: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    task_id: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    row: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))
    archived_at: datetime = Field(sa_column=moment(now=True))
    restored_at: datetime | None = Field(sa_column=moment())
