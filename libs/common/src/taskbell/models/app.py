"""The web app's tables, as far as Taskbell reads them (docs/app-tables.md).

Their schema is the placeholder `app`, which the engine translates to APP_SCHEMA. An app whose tables differ offers
views with these names and columns.
"""

from datetime import datetime
from typing import ClassVar

from sqlalchemy import BigInteger, Column, DateTime, ForeignKey, Index, MetaData, Text, text
from sqlmodel import Field, SQLModel

APP = "app"
"""The placeholder for the schema of the web app's tables."""


class AppModel(SQLModel):
    """A table of the web app. Taskbell reads it; of these tables it changes only tasks."""

    metadata: ClassVar[MetaData] = MetaData(schema=APP)


class User(AppModel, table=True):
    """A person who may be assigned tasks."""

    __tablename__ = "users"

    id: int | None = Field(default=None, sa_column=Column(BigInteger, primary_key=True))
    name: str = Field(sa_type=Text)
    email: str | None = Field(default=None, sa_type=Text)
    timezone: str | None = Field(default=None, sa_type=Text)
    """An IANA zone. If it is unknown or null, TIMEZONE counts."""
    locale: str | None = Field(default=None, sa_type=Text)
    """A language. If it is unknown or null, `en` counts."""
    is_active: bool | None = Field(default=True)
    """null means inactive."""


class Project(AppModel, table=True):
    """A team or project that tasks belong to."""

    __tablename__ = "projects"

    id: int | None = Field(default=None, sa_column=Column(BigInteger, primary_key=True))
    name: str = Field(sa_type=Text)


class Task(AppModel, table=True):
    """A task. Reports count statuses and priorities that we do not know under their own names."""

    __tablename__ = "tasks"
    __table_args__ = (
        Index(
            "tasks_open_by_assignee",
            "assignee_id",
            "due_date",
            postgresql_where=text("status IN ('pending', 'in_progress')"),
        ),
        Index(
            "tasks_open_by_due",
            "due_date",
            postgresql_where=text("status IN ('pending', 'in_progress')"),
        ),
        Index(
            "tasks_done_by_assignee",
            "assignee_id",
            "completed_at",
            postgresql_where=text("status = 'done'"),
        ),
        Index(
            "tasks_done_by_completion",
            text("coalesce(completed_at, updated_at)"),
            "id",
            postgresql_where=text("status = 'done'"),
        ),
    )

    id: int | None = Field(default=None, sa_column=Column(BigInteger, primary_key=True))
    title: str = Field(sa_type=Text)
    description: str | None = Field(default=None, sa_type=Text)
    status: str = Field(default="pending", sa_column=Column(Text, nullable=False, server_default="pending"))
    priority: str = Field(default="medium", sa_column=Column(Text, nullable=False, server_default="medium"))
    due_date: datetime | None = Field(default=None, sa_column=Column(DateTime(timezone=True)))
    created_at: datetime | None = Field(
        default=None, sa_column=Column(DateTime(timezone=True), nullable=False, server_default=text("now()"))
    )
    updated_at: datetime | None = Field(
        default=None, sa_column=Column(DateTime(timezone=True), nullable=False, server_default=text("now()"))
    )
    completed_at: datetime | None = Field(default=None, sa_column=Column(DateTime(timezone=True)))
    project_id: int | None = Field(default=None, sa_column=Column(BigInteger, ForeignKey("app.projects.id")))
    assignee_id: int | None = Field(default=None, sa_column=Column(BigInteger, ForeignKey("app.users.id")))
