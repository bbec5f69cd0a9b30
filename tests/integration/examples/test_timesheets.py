"""The timesheets example as its README runs it: granted by `taskbell setup`, and started by `faststream run`."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest_asyncio
from tests.support.command import taskbell
from tests.support.management import Message
from tests.support.packages import Packages, packages_in
from tests.support.roles import PASSWORD, as_user, connected, sole_use_of_logins
from tests.support.servers import ServerUrls
from tests.support.vhosts import Vhost
from tests.support.waiting import eventually

from taskbell.client import AsyncClient

EXAMPLE = Path(__file__).parents[3] / "examples" / "timesheets"
COMMAND = "timesheets.log_hours"
DEAD = "timesheets.dead"
LADDER = "taskbell.retry.10s"
LOGIN = "taskbell_timesheets"


class Service:
    """The service that runs, with its servers."""

    def __init__(self, database_url: str, vhost: Vhost) -> None:
        self.database_url = database_url
        self.vhost = vhost
        self.management = vhost.management

    async def rows(self, sql: str) -> list[asyncpg.Record]:
        async with connected(self.database_url) as connection:
            return await connection.fetch(sql)

    async def one_in(self, queue: str) -> Message:
        """The only message there, once it is there; it is taken."""
        await eventually(lambda: self._has_one(queue), what=f"a message in {queue}")
        (message,) = await self.management.take(queue)
        return message

    async def _has_one(self, queue: str) -> bool:
        return (await self.management.depth(queue)).ready == 1

    @asynccontextmanager
    async def running(self, packages: Packages) -> AsyncIterator[None]:
        """It consumes from both of its queues."""
        servers = {
            "DATABASE_URL": as_user(self.database_url, LOGIN, PASSWORD),
            "BROKER_URL": as_user(self.vhost.url, LOGIN, PASSWORD),
        }
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "faststream", "run", "--factory", "taskbell_timesheets.app:app"),
            env={**os.environ, **servers, "PYTHONPATH": packages.path},
            cwd=packages.folder,
        )

        async def consumes() -> bool:
            assert process.returncode is None, "it has ended"
            queues = (COMMAND, "timesheets.task_status_changed")
            return all([(await self.management.depth(queue)).consumers for queue in queues])

        try:
            await eventually(consumes, what="its consumers")
            yield
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()


@pytest_asyncio.fixture
async def service(servers: ServerUrls, database_url: str, vhost: Vhost, tmp_path: Path) -> AsyncIterator[Service]:
    service = Service(database_url, vhost)
    with packages_in(tmp_path / "site") as packages:
        packages.install_project(EXAMPLE)
        settings = {
            "DATABASE_URL": database_url,
            "BROKER_URL": vhost.url,
            "BROKER_MANAGEMENT_URL": vhost.management.url,
            "TIMESHEETS_DATABASE_PASSWORD": PASSWORD,
            "TIMESHEETS_BROKER_PASSWORD": PASSWORD,
            "PYTHONPATH": packages.path,
        }
        tables = await taskbell("timesheets", "tables", **settings)
        async with sole_use_of_logins(servers), connected(database_url) as connection:
            await connection.execute(tables.out)
            try:
                done = await taskbell("setup", "--grant", "taskbell-timesheets", **settings)
                assert done.status == 0, done.err
                async with service.running(packages):
                    yield service
            finally:
                await remove_login(service)


async def remove_login(service: Service) -> None:
    """The role and the user are the servers' own, and outlive database and virtual host."""
    if LOGIN in {it["name"] for it in await service.management.call("GET", "/users")}:
        await service.management.call("DELETE", f"/users/{LOGIN}")
    if await service.rows(f"SELECT FROM pg_roles WHERE rolname = '{LOGIN}'"):
        await service.rows(f"DROP OWNED BY {LOGIN}")
        await service.rows(f"DROP ROLE {LOGIN}")


async def test_it_logs_hours_once_and_retries_and_gives_up_as_our_services_do(service: Service) -> None:
    from taskbell_timesheets import LogHours  # type: ignore[import-not-found]

    told = await service.management.listen("taskbell.events", "hours.logged")
    command = LogHours(task_id=7, hours=1.5)
    async with AsyncClient(service.vhost.url) as client:
        for _ in range(2):
            outcome = await client.request(command, message_id="m-1", timeout=30)
            assert (outcome.state, outcome.result) == ("done", {"task_id": 7, "hours": 1.5})
    event = await service.one_in(told)
    assert (event.json()["hours"], event.properties["message_id"]) == (1.5, "m-1.logged")
    entries = "SELECT task_id, hours, to_bill FROM timesheets.entry"
    assert [tuple(row) for row in await service.rows(entries)] == [(7, 1.5, False)]

    # A task of theirs is done, as maintenance tells.
    done = {"task_id": 7, "old_status": "pending", "new_status": "done", "requested_by": None}
    await service.management.publish("taskbell.events", "task.status_changed", done)
    await eventually(lambda: service.rows(f"{entries} WHERE to_bill"), what="hours to bill")

    await service.management.publish("taskbell.commands", COMMAND, {"task_id": 7, "hours": 25})
    dead = await service.one_in(DEAD)
    assert dead.headers["x-taskbell-reason"].startswith("hours: Input should be less than or equal to 24")

    await service.rows("ALTER TABLE timesheets.entry RENAME TO gone")
    properties = {"message_id": "m-2"}
    await service.management.publish("taskbell.commands", COMMAND, {"task_id": 8, "hours": 2}, properties=properties)
    retried = await service.one_in(LADDER)
    assert (retried.properties["message_id"], retried.headers["x-taskbell-attempt"]) == ("m-2", 1)
    assert (await service.management.depth(told)).ready == 0
