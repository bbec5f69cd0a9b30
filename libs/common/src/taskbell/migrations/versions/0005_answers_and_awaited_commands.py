"""When PostgreSQL was seen to answer, and commands that end later than their handling.

Revision ID: 0005
Revises: 0004
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE taskbell.answering (
    since timestamptz DEFAULT now() NOT NULL,
    until timestamptz DEFAULT now() NOT NULL,
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    CONSTRAINT answering_pkey PRIMARY KEY (id)
);

CREATE TABLE taskbell.awaited_command (
    message_id TEXT NOT NULL,
    reply_to TEXT NOT NULL,
    correlation_id TEXT NOT NULL,
    delivery_id BIGINT NOT NULL,
    envelope JSONB NOT NULL,
    body TEXT NOT NULL,
    reason TEXT,
    received_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT awaited_command_pkey PRIMARY KEY (message_id, reply_to, correlation_id)
);
"""


def upgrade() -> None:
    """Creates two tables, both small."""
    for statement in TABLES.split(";\n"):
        if statement.strip():
            op.execute(statement)


def downgrade() -> None:
    """Drops them. Commands that were awaited keep no outcome, and their mails are sent all the same."""
    op.execute("DROP TABLE taskbell.awaited_command")
    op.execute("DROP TABLE taskbell.answering")
