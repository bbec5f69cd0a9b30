"""A message_id belongs to its message: digests of what messages say, and a place for those that take no id.

Revision ID: 0002
Revises: 0001
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# No row is rewritten. The unique keys on message_id stay: processes of the former version name them in ON CONFLICT
# while services are replaced one by one. So a command whose message_id is another's is a row of a table of its own,
# which inherits from `command`: whoever reads `command` reads both.
STATEMENTS = (
    "ALTER TABLE taskbell.command ADD COLUMN digest TEXT",
    "ALTER TABLE taskbell.mailing ADD COLUMN digest TEXT",
    "ALTER TABLE taskbell.outbox ADD COLUMN wire_id TEXT",
    "CREATE INDEX outbox_wire_id_idx ON taskbell.outbox (wire_id) WHERE wire_id IS NOT NULL",
    """
    CREATE TABLE taskbell.refused_command (
        key TEXT NOT NULL,
        CONSTRAINT refused_command_pkey PRIMARY KEY (key)
    ) INHERITS (taskbell.command)
    """,
    "CREATE INDEX refused_command_message_id_idx ON taskbell.refused_command (message_id)",
    "CREATE INDEX refused_command_finished_at_idx ON taskbell.refused_command (finished_at)",
    # Whoever may do something with `command` may do it here, also if this setup makes no role.
    """
    DO $$
    DECLARE given record;
    BEGIN
        FOR given IN
            SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END AS grantee,
                a.privilege_type
            FROM pg_class AS c CROSS JOIN LATERAL aclexplode(c.relacl) AS a
            WHERE c.oid = 'taskbell.command'::regclass AND a.grantee <> c.relowner
                AND a.privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
        LOOP
            EXECUTE format('GRANT %s ON taskbell.refused_command TO %s', given.privilege_type, given.grantee);
        END LOOP;
    END
    $$
    """,
)


def upgrade() -> None:
    """Adds them."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """The former version works with this schema, and dropping the columns would lose whose a message_id is."""
    msg = "version 0002 of Taskbell's schema cannot be downgraded: the former version works with it"
    raise RuntimeError(msg)
