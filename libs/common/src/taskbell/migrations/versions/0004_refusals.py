"""Refusals that nobody has been blamed for yet, and the function that plans mails again.

Revision ID: 0004
Revises: 0003
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TABLE = """
CREATE TABLE taskbell.refusal (
    delivery_id BIGINT NOT NULL,
    person TEXT NOT NULL,
    said TEXT NOT NULL,
    reason TEXT NOT NULL,
    refused_at timestamptz DEFAULT now() NOT NULL,
    held_at timestamptz,
    CONSTRAINT refusal_pkey PRIMARY KEY (delivery_id)
)
"""


def upgrade() -> None:
    """Creates the table; no other table is touched."""
    op.execute(TABLE)


def downgrade() -> None:
    """Drops the table; rows that wait for a judgement are tried again an hour after their refusal."""
    op.execute("DROP TABLE taskbell.refusal")
