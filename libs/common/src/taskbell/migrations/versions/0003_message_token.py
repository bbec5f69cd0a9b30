"""A part of each mail's Message-ID that nobody can guess.

Revision ID: 0003
Revises: 0002
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# The default is set in a statement of its own: added together with the column, it would write a token into every row
# and rewrite the table. Rows from before keep NULL.
COLUMN = "ALTER TABLE taskbell.delivery ADD COLUMN message_token TEXT"
DEFAULT = """
ALTER TABLE taskbell.delivery ALTER COLUMN message_token
    SET DEFAULT pg_catalog.replace(CAST(pg_catalog.gen_random_uuid() AS text), '-', '')
"""


def upgrade() -> None:
    """Adds the column; no row is changed."""
    op.execute(COLUMN)
    op.execute(DEFAULT)


def downgrade() -> None:
    """Drops the column; Message-IDs that were stored stay as they are."""
    op.execute("ALTER TABLE taskbell.delivery DROP COLUMN message_token")
