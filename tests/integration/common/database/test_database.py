"""Transactions on a real PostgreSQL, and what becomes of its errors."""

import asyncio
import os
import signal
from typing import Any, TypeAlias

import asyncpg
import pytest
from sqlalchemy.exc import DBAPIError, IntegrityError
from tests.integration.common.database.conftest import connected
from tests.support.databases import database_url as url_of
from tests.support.probes import ping
from tests.support.servers import ServerUrls
from tests.support.waiting import eventually

from taskbell.database import Database, quoted, sqlstate
from taskbell.errors import DatabaseUnavailable
from taskbell.models import Project
from taskbell.settings import CommonSettings, load
from taskbell_devstack.stack import Stack

Admin: TypeAlias = "asyncpg.Connection[Any]"

INSERT = "INSERT INTO public.projects (id, name) VALUES (:id, :name)"


async def names(database: Database) -> list[str]:
    async with database.transaction() as transaction:
        return [row.name for row in await transaction.rows("SELECT name FROM public.projects ORDER BY id")]


async def own_pid(database: Database) -> int:
    async with database.transaction() as transaction:
        return int(await transaction.value("SELECT pg_backend_pid()"))


async def test_a_block_that_ends_is_committed_with_all_its_statements(database: Database) -> None:
    async with database.transaction() as transaction:
        await transaction.execute(INSERT, {"id": 1, "name": "one"})
        await transaction.execute(INSERT, [{"id": 2, "name": "two"}, {"id": 3, "name": "three"}])
        assert await transaction.value("SELECT count(*) FROM public.projects") == 3
    assert await names(database) == ["one", "two", "three"]


async def test_a_block_that_raises_leaves_nothing_behind(database: Database) -> None:

    async def work() -> None:
        async with database.transaction() as transaction:
            await transaction.execute(INSERT, {"id": 1, "name": "one"})
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await work()
    assert await names(database) == []


async def test_rows_come_as_they_are_asked_for(database: Database) -> None:
    async with database.transaction() as transaction:
        await transaction.execute(INSERT, [{"id": 1, "name": "one"}, {"id": 2, "name": "two"}])
        assert await transaction.value("SELECT name FROM public.projects WHERE id = 9") is None
        assert await transaction.row("SELECT name FROM public.projects WHERE id = 9") is None
        row = await transaction.row("SELECT id, name FROM public.projects WHERE id = 1")
        assert row is not None
        assert (row.id, row.name) == (1, "one")
        assert [
            dict(each) for each in await transaction.mappings("SELECT id, name FROM public.projects ORDER BY id")
        ] == [
            {"id": 1, "name": "one"},
            {"id": 2, "name": "two"},
        ]


async def test_statements_on_models_go_to_the_apps_schema(database_url: str, admin: Admin) -> None:
    await admin.execute('CREATE SCHEMA "the app"; CREATE TABLE "the app".projects (id bigint, name text)')
    database = connected(database_url, app_schema="the app")
    async with database.transaction() as transaction:
        await transaction.execute(Project.__table__.insert().values(id=1, name="one"))  # type: ignore[attr-defined]
        assert await transaction.value(f"SELECT name FROM {database.app}.projects") == "one"
    await database.close()
    assert await admin.fetchval("SELECT count(*) FROM public.projects") == 0


def test_a_schemas_name_is_always_quoted() -> None:
    assert quoted("public") == '"public"'
    assert quoted('a"b; DROP') == '"a""b; DROP"'


async def test_callbacks_come_after_the_commit_and_in_order(database: Database, admin: Admin) -> None:
    seen: list[str] = []
    async with database.transaction() as transaction:
        await transaction.execute(INSERT, {"id": 1, "name": "one"})
        transaction.after_commit(lambda: seen.append("first"))
        transaction.after_commit(lambda: seen.append("second"))
        assert await admin.fetchval("SELECT count(*) FROM public.projects") == 0
        assert seen == []
    assert seen == ["first", "second"]


async def test_no_callback_comes_after_a_rollback_or_a_failed_commit(database: Database, admin: Admin) -> None:
    await admin.execute(
        "CREATE TABLE public.parent (id int PRIMARY KEY);"
        "CREATE TABLE public.child (id int REFERENCES public.parent DEFERRABLE INITIALLY DEFERRED)"
    )
    seen: list[str] = []

    async def rolled_back() -> None:
        async with database.transaction() as transaction:
            transaction.after_commit(lambda: seen.append("rolled back"))
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await rolled_back()

    async def work() -> None:
        async with database.transaction() as transaction:
            transaction.after_commit(lambda: seen.append("commit failed"))
            await transaction.execute("INSERT INTO public.child VALUES (1)")

    with pytest.raises(IntegrityError):
        await work()
    assert seen == []


async def test_a_connection_that_is_ended_under_a_statement_means_unavailable(database: Database, admin: Admin) -> None:

    async def work() -> None:
        async with database.transaction() as transaction:
            pid = await transaction.value("SELECT pg_backend_pid()")
            sleeping = asyncio.create_task(transaction.execute("SELECT pg_sleep(60)"))
            await eventually(lambda: _is_active(admin, pid))
            await admin.execute("SELECT pg_terminate_backend($1)", pid)
            await sleeping

    with pytest.raises(DatabaseUnavailable, match="terminating connection due to administrator command"):
        await work()
    await ping(database)


async def _is_active(admin: Admin, pid: int) -> bool:
    return bool(await admin.fetchval("SELECT state = 'active' FROM pg_stat_activity WHERE pid = $1", pid))


@pytest.mark.parametrize("then", ["statement", "commit"])
async def test_a_connection_that_is_ended_between_statements_means_unavailable(
    database: Database, admin: Admin, then: str
) -> None:

    async def work() -> None:
        async with database.transaction() as transaction:
            pid = await transaction.value("SELECT pg_backend_pid()")
            await _end(admin, pid)
            if then == "statement":
                await transaction.execute("SELECT 1")

    with pytest.raises(DatabaseUnavailable):
        await work()
    await ping(database)


async def _end(admin: Admin, pid: int) -> None:
    await admin.execute("SELECT pg_terminate_backend($1)", pid)

    async def gone() -> bool:
        return not await admin.fetchval("SELECT count(*) FROM pg_stat_activity WHERE pid = $1", pid)

    await eventually(gone)


async def test_connections_that_died_in_the_pool_cost_one_failure_at_most(database: Database, admin: Admin) -> None:
    await asyncio.gather(*(own_pid(database) for _ in range(3)))
    for pid in {row["pid"] for row in await admin.fetch(
        "SELECT pid FROM pg_stat_activity WHERE application_name = 'test' AND datname = current_database()"
    )}:  # fmt: skip
        await _end(admin, pid)
    failures = 0
    for _ in range(6):
        try:
            await ping(database)
        except DatabaseUnavailable:
            failures += 1
    assert failures <= 1


async def test_a_statement_that_an_operator_cancels_is_an_error_and_not_an_outage(
    database: Database, admin: Admin
) -> None:

    async def work() -> None:
        async with database.transaction() as transaction:
            pid = await transaction.value("SELECT pg_backend_pid()")
            sleeping = asyncio.create_task(transaction.execute("SELECT pg_sleep(60)"))
            await eventually(lambda: _is_active(admin, pid))
            await admin.execute("SELECT pg_cancel_backend($1)", pid)
            await sleeping

    with pytest.raises(DBAPIError) as caught:
        await work()
    assert sqlstate(caught.value) == "57014"


async def test_a_statement_that_takes_too_long_is_ended_by_the_server_and_is_its_own_fault(database_url: str) -> None:
    settings = load(CommonSettings, database_url=database_url, broker_url="amqp://mq/")
    database = Database.connect(settings, name="test", statement_timeout=0.1)
    with pytest.raises(DBAPIError) as caught:
        async with database.transaction() as transaction:
            await transaction.execute("SELECT pg_sleep(60)")
    assert sqlstate(caught.value) == "57014"
    await database.close()


async def test_a_server_that_does_not_answer_at_all_is_unavailable(
    server: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    from taskbell import database as module

    monkeypatch.setattr(module, "SILENCE", 0.3)
    state = server.state.postgresql
    assert state is not None
    settings = load(CommonSettings, database_url=state.url, broker_url="amqp://mq/")
    database = Database.connect(settings, name="test", statement_timeout=0.2)
    pid = await own_pid(database)
    try:

        async def work() -> None:
            async with database.transaction() as transaction:
                await transaction.execute("SELECT 1")
                os.kill(pid, signal.SIGSTOP)
                await transaction.execute("SELECT 1")

        with pytest.raises(DatabaseUnavailable, match="PostgreSQL does not answer"):
            await work()
    finally:
        os.kill(pid, signal.SIGCONT)
    await ping(database)
    assert await own_pid(database) != pid
    await database.close()


async def test_a_time_limit_of_the_callers_own_stays_a_time_limit(database: Database) -> None:

    async def work() -> None:
        async with database.transaction() as transaction:
            async with asyncio.timeout(0.05):
                await transaction.execute("SELECT pg_sleep(60)")

    with pytest.raises(TimeoutError):
        await work()
    await ping(database)


@pytest.mark.parametrize(
    ("statement", "parameters", "state"),
    [
        ("SELECT CAST(:x AS bigint)", {"x": 2**70}, "22000"),
        ("SELECT CAST(:x AS bigint)", {"x": "seven"}, "22000"),
        ("SELECT CAST(:x AS text)", {"x": "a\x00b"}, "22021"),
        ("SELECT CAST(:x AS text)", {"x": "\udc80"}, "22000"),
        ("SELECT 1/0", {}, "22012"),
        ("SELEKT", {}, "42601"),
        ("SELECT * FROM nowhere", {}, "42P01"),
    ],
)
async def test_what_is_wrong_with_a_statement_is_no_outage(
    database: Database, statement: str, parameters: dict[str, object], state: str
) -> None:
    """An outage is waited out for ever: a mistake that is taken for one would block its queue."""
    with pytest.raises(DBAPIError) as caught:
        async with database.transaction() as transaction:
            await transaction.execute(statement, parameters)
    assert sqlstate(caught.value) == state


async def test_errors_do_not_tell_what_was_in_a_row(database: Database) -> None:
    async with database.transaction() as transaction:
        await transaction.execute(INSERT, {"id": 1, "name": "one"})
    with pytest.raises(IntegrityError) as caught:
        async with database.transaction() as transaction:
            await transaction.execute(INSERT, {"id": 1, "name": "ann@example.org"})
    assert "example.org" not in str(caught.value)


async def test_a_server_that_takes_no_changes_is_unavailable(
    database_url: str, database: Database, admin: Admin
) -> None:

    async def work() -> None:
        async with database.transaction() as transaction:
            await transaction.execute("SET TRANSACTION READ ONLY")
            await transaction.execute(INSERT, {"id": 1, "name": "one"})

    with pytest.raises(DatabaseUnavailable, match="read-only transaction"):
        await work()
    name = await admin.fetchval("SELECT current_database()")
    await admin.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    standby = connected(database_url)
    with pytest.raises(DatabaseUnavailable, match="PostgreSQL takes no changes: it is read-only"):
        await ping(standby)
    await standby.close()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"path": "/no_such_database"}, 'database "no_such_database" does not exist'),
        ({"netloc": "127.0.0.1:1"}, "Connect call failed"),
        ({"netloc": "nowhere.invalid"}, "the host 'nowhere.invalid' of DATABASE_URL is not found"),
    ],
)
async def test_without_a_connection_everything_is_unavailable_and_says_why(
    database_url: str, change: dict[str, str], words: str
) -> None:
    from urllib.parse import urlsplit

    database = connected(urlsplit(database_url)._replace(**change).geturl())
    with pytest.raises(DatabaseUnavailable, match=words):
        await ping(database)
    await database.close()


async def test_too_many_clients_are_an_outage(servers: ServerUrls, database_url: str, admin: Admin) -> None:
    name = await admin.fetchval("SELECT current_database()")
    role = f"{name}_app"
    await admin.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'pw' CONNECTION LIMIT 1")
    try:
        host = url_of(servers.database_url, name).rpartition("@")[2]
        database = connected(f"postgresql://{role}:pw@{host}")
        async with database.transaction():
            with pytest.raises(DatabaseUnavailable, match="too many connections"):
                await ping(database)
        await database.close()
    finally:
        await admin.execute(f"DROP ROLE {role}")


async def test_a_server_that_is_stopped_and_started_is_found_again(server: Stack) -> None:
    state = server.state.postgresql
    assert state is not None
    database = connected(state.url)
    await ping(database)
    await asyncio.to_thread(server.stop, "postgresql")
    for _ in range(3):
        with pytest.raises(DatabaseUnavailable, match="PostgreSQL: "):
            await ping(database)
    await asyncio.to_thread(server.start, "postgresql")
    await eventually(lambda: _answers(database))
    await asyncio.to_thread(server.kill, "postgresql")
    with pytest.raises(DatabaseUnavailable):
        await ping(database)
    await asyncio.to_thread(server.start, "postgresql")
    await eventually(lambda: _answers(database))
    await database.close()


async def _answers(database: Database) -> bool:
    try:
        await ping(database)
    except DatabaseUnavailable:
        return False
    return True


async def test_a_transaction_that_is_cancelled_leaves_neither_rows_nor_its_connection_behind(
    database: Database, admin: Admin
) -> None:
    async def work() -> None:
        async with database.transaction() as transaction:
            await transaction.execute(INSERT, {"id": 1, "name": "one"})
            await transaction.execute("SELECT pg_sleep(60)")

    for _ in range(5):
        task = asyncio.create_task(work())
        await eventually(lambda: _sleeps(admin))
        task.cancel()
        await asyncio.wait([task])
    assert await names(database) == []
    await asyncio.gather(*(own_pid(database) for _ in range(3)))
    open_ = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'test' AND datname = current_database()"
    assert await admin.fetchval(open_) <= 3


async def _sleeps(admin: Admin) -> bool:
    query = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'"
    return bool(await admin.fetchval(f"{query} AND datname = current_database()"))


async def test_more_work_than_connections_takes_turns(database: Database) -> None:
    pids = await asyncio.gather(*(own_pid(database) for _ in range(20)))
    assert len(set(pids)) <= 3


async def test_without_prepared_statements_it_works_the_same(database_url: str) -> None:
    database = connected(database_url, database_prepared_statements=False)
    for number in range(3):
        async with database.transaction() as transaction:
            await transaction.execute(INSERT, {"id": number, "name": str(number)})
    assert await names(database) == ["0", "1", "2"]
    async with database.transaction() as transaction:
        assert await transaction.value("SELECT count(*) FROM pg_prepared_statements") <= 1
    await database.close()


async def test_a_session_keeps_utc_and_says_who_it_is(database: Database) -> None:
    async with database.transaction() as transaction:
        assert await transaction.value("SHOW timezone") == "UTC"
        assert await transaction.value("SHOW application_name") == "test"
        assert await transaction.value("SHOW statement_timeout") == "1min"
