"""Alembic's entry point. `taskbell setup` passes its open connection, so that everything happens in one transaction."""

from alembic import context
from sqlalchemy import Connection

from taskbell.models import OWN, OwnModel


def _run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=OwnModel.metadata,
        version_table_schema=OWN,
        include_schemas=True,
        transactional_ddl=True,
    )
    with context.begin_transaction():
        context.run_migrations()


_run(context.config.attributes["connection"])
