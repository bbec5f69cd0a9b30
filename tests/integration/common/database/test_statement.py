"""A transaction of one statement, on a real PostgreSQL."""

import pytest
from sqlalchemy.exc import IntegrityError

from taskbell.database import Database

INSERT = "INSERT INTO public.projects (id, name) VALUES (:id, :name)"
COUNT = "SELECT count(*) FROM public.projects"


async def projects(database: Database) -> int:
    async with database.transaction() as transaction:
        return int(await transaction.value(COUNT))


async def test_it_is_committed_before_its_block_ends_and_calls_back_after_it(database: Database) -> None:
    called: list[str] = []
    async with database.statement() as tx:
        tx.after_commit(lambda: called.append("back"))
        await tx.execute(INSERT, {"id": 1, "name": "one"})
        assert await projects(database) == 1
        assert called == []
    assert called == ["back"]


async def test_a_second_one_is_refused_and_the_first_stands(database: Database) -> None:
    async def work() -> None:
        async with database.statement() as tx:
            await tx.execute(INSERT, {"id": 1, "name": "one"})
            await tx.execute(INSERT, {"id": 2, "name": "two"})

    with pytest.raises(RuntimeError, match="second statement"):
        await work()
    assert await projects(database) == 1


async def test_one_that_fails_has_no_effect_and_calls_nobody_back(database: Database) -> None:
    called: list[str] = []

    async def work() -> None:
        async with database.statement() as tx:
            tx.after_commit(lambda: called.append("back"))
            await tx.execute(INSERT + ", (:id, :name)", {"id": 1, "name": "one"})

    with pytest.raises(IntegrityError):
        await work()
    assert (await projects(database), called) == (0, [])


async def test_its_connection_serves_whole_transactions_again(database: Database) -> None:
    async def lost(number: int) -> None:
        async with database.transaction() as tx:
            await tx.execute(INSERT, {"id": number, "name": "lost"})
            raise ValueError("no")

    for number in range(12):  # more than the pool has connections
        async with database.statement() as tx:
            await tx.execute(INSERT, {"id": number, "name": "kept"})
        with pytest.raises(ValueError, match="no"):
            await lost(100 + number)
    assert await projects(database) == 12
