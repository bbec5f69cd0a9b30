"""The roles of a stack's database, which `taskbell setup` makes."""

from taskbell.setup.privileges import login
from taskbell_devstack.databases import connect
from taskbell_devstack.errors import NotReady


async def require_role(database_url: str, role: str) -> None:
    """Check that this role was made. Raises NotReady, which says how to make it, if it was not."""
    connection = await connect(database_url)
    try:
        if await connection.fetchval("SELECT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = $1)", login(role)):
            return
    finally:
        await connection.close()
    raise NotReady(
        f"The role {login(role)} does not exist yet. Make it with `taskbell dev demo`, or with `taskbell setup` after: "
        'eval "$(taskbell dev env)"'
    )
