"""What a gate may ask of a database that need not be migrated."""

from taskbell.database import Database, check_writable


async def ping(database: Database) -> None:
    """Raises DatabaseUnavailable if PostgreSQL does not answer, refuses us, or takes no changes."""
    async with database.transaction() as transaction:
        await check_writable(transaction)
