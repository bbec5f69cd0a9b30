"""Whose rows of the outbox a role sees and may write: row-level security, tried row by row."""

from collections.abc import AsyncIterator

import asyncpg
import pytest
import pytest_asyncio
from tests.support.roles import Roles, allows, connected

# What a role may do with the rows of each owner: read and write them, only read them, or not know that they exist.
ROWS = """
                   of: scheduler   notifier    maintenance   app
    scheduler          write       -           -             -
    notifier           -           write       -             -
    maintenance        -           -           write         write
    operator           read        read        read          read
"""

LINES = [line.split() for line in ROWS.splitlines() if line.strip()]
OWNERS = LINES[0][1:]
EXPECTED = {role: dict(zip(OWNERS, cells, strict=True)) for role, *cells in LINES[1:]}
WRITERS = [(role, owner) for role in EXPECTED if role != "operator" for owner in OWNERS]

INSERT = (
    "INSERT INTO taskbell.outbox (owner, routing_key, body, message_id) VALUES ('{0}', 'weekly.due', '{{}}', '{1}')"
)


@pytest_asyncio.fixture(scope="module", autouse=True)
async def admin(roles: Roles) -> AsyncIterator[asyncpg.Connection]:
    """The owner of the table, who has written a row of each owner."""
    async with connected(roles.admin_url) as connection:
        for owner in OWNERS:
            await connection.execute(INSERT.format(owner, owner))
        yield connection


async def owners(connection: asyncpg.Connection, statement: str) -> set[str]:
    """The owners that a statement returns; what it did is undone."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        return {row["owner"] for row in await connection.fetch(statement)}
    finally:
        await transaction.rollback()


@pytest.mark.parametrize("role", EXPECTED)
async def test_a_role_sees_the_rows_that_are_its_business(roles: Roles, role: str) -> None:
    async with connected(roles.database_url(role)) as connection:
        seen = await owners(connection, "SELECT owner FROM taskbell.outbox")
    assert seen == {owner for owner, may in EXPECTED[role].items() if may != "-"}


@pytest.mark.parametrize("role", sorted(EXPECTED.keys() - {"operator"}))
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE taskbell.outbox SET published_at = now() RETURNING owner",
        "DELETE FROM taskbell.outbox RETURNING owner",
        "SELECT owner FROM taskbell.outbox FOR UPDATE SKIP LOCKED",
    ],
)
async def test_a_change_of_all_rows_is_one_of_its_own(roles: Roles, role: str, statement: str) -> None:
    async with connected(roles.database_url(role)) as connection:
        changed = await owners(connection, statement)
    assert changed == {owner for owner, may in EXPECTED[role].items() if may == "write"}


@pytest.mark.parametrize(("role", "owner"), WRITERS)
async def test_a_role_writes_no_row_in_the_name_of_another(roles: Roles, role: str, owner: str) -> None:
    async with connected(roles.database_url(role)) as connection:
        written = await allows(connection, INSERT.format(owner, "new"))
    assert written == (EXPECTED[role][owner] == "write")


@pytest.mark.parametrize(("role", "owner"), WRITERS)
async def test_a_role_passes_no_row_to_another(roles: Roles, role: str, owner: str) -> None:
    async with connected(roles.database_url(role)) as connection:
        passed = await allows(connection, f"UPDATE taskbell.outbox SET owner = '{owner}'")
    assert passed == (EXPECTED[role][owner] == "write")


async def test_what_the_app_enqueues_is_in_the_rows_that_maintenance_relays(roles: Roles) -> None:
    async with connected(roles.database_url("app")) as connection:
        await connection.execute("SELECT taskbell.enqueue('weekly.due', '{}', 'from the app')")
    async with connected(roles.database_url("maintenance")) as connection:
        found = await connection.fetchval("SELECT owner FROM taskbell.outbox WHERE message_id = 'from the app'")
    assert found == "app"
    async with connected(roles.database_url("notifier")) as connection:
        assert not await connection.fetch("SELECT FROM taskbell.outbox WHERE message_id = 'from the app'")
