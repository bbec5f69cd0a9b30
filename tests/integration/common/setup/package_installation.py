"""Servers on which `taskbell setup` runs with a package installed."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import aiormq
from tests.support.command import Done, taskbell
from tests.support.management import Management
from tests.support.packages import Packages
from tests.support.roles import NAMES, PASSWORD, allows, as_user, connected
from tests.support.vhosts import Vhost

ACME = "acme-timesheets"


WISHES = (
    "taskbell_timesheets may SELECT, INSERT, UPDATE (approved) on timesheets.entry; "
    "taskbell_notifier may SELECT (id, name) on public.teams; "
    "a login taskbell_timesheets, which consumes timesheets.approve, timesheets.task_status_changed and publishes what "
    "anyone may; "
    "anyone may publish timesheets.approve; "
    "taskbell_timesheets may publish month.closed"
)


@dataclass
class Installation:
    """Servers, the package's tables, and `taskbell setup` with a password for every role."""

    database_url: str
    vhost: Vhost
    packages: Packages
    roles: tuple[str, ...] = (*NAMES, "timesheets")
    more: dict[str, str] = field(default_factory=dict)

    async def set_up(self, *arguments: str, path: str | None = None) -> Done:
        """Runs it; unless a path is given, the packages are installed."""
        done = await taskbell("setup", *arguments, **self.environment(path or self.packages.path))
        assert done.status == 0, done.err
        return done

    def environment(self, path: str) -> dict[str, str]:
        """All that it needs to know, with what is in that PYTHONPATH installed."""
        passwords = {
            f"{name.upper()}_{server}_PASSWORD": PASSWORD for name in self.roles for server in ("DATABASE", "BROKER")
        }
        servers = {
            "DATABASE_URL": self.database_url,
            "BROKER_URL": self.vhost.url,
            "BROKER_MANAGEMENT_URL": self.vhost.management.url,
        }
        return servers | passwords | self.more | {"PYTHONPATH": path}

    async def without_package(self, *arguments: str) -> Done:
        """Runs it as if the package were not installed."""
        paths = self.packages.path.split(":")
        return await self.set_up(*arguments, path=":".join(it for it in paths if it != str(self.packages.folder)))

    async def execute(self, sql: str) -> None:
        async with connected(self.database_url) as connection:
            await connection.execute(sql)

    async def allows(self, role: str, statement: str) -> bool:
        """Whether PostgreSQL lets that role do that."""
        async with connected(as_user(self.database_url, f"taskbell_{role}", PASSWORD)) as connection:
            return await allows(connection, statement)

    async def publishes(self, role: str, exchange: str, key: str) -> bool:
        """Whether RabbitMQ lets that role publish that."""
        connection = await aiormq.connect(as_user(self.vhost.url, f"taskbell_{role}", PASSWORD))
        try:
            channel = await connection.channel()
            await channel.basic_publish(b"{}", exchange=exchange, routing_key=key)
        except aiormq.exceptions.ChannelAccessRefused:
            return False
        finally:
            await connection.close()
        return True

    async def reads(self, role: str, queue: str) -> bool:
        """Whether RabbitMQ lets that role consume from that queue."""
        connection = await aiormq.connect(as_user(self.vhost.url, f"taskbell_{role}", PASSWORD))
        try:
            channel = await connection.channel()
            await channel.basic_get(queue)
        except aiormq.exceptions.ChannelAccessRefused:
            return False
        finally:
            await connection.close()
        return True


async def drop(installation: Installation) -> None:
    await installation.vhost.management.call("DELETE", "/users/taskbell_timesheets") if await user(
        installation.vhost.management
    ) else None
    async with connected(installation.database_url) as connection:
        if await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = 'taskbell_timesheets'"):
            await connection.execute("DROP OWNED BY taskbell_timesheets; DROP ROLE taskbell_timesheets")


async def user(management: Management) -> Mapping[str, object] | None:
    """The broker's user of the package."""
    found = [it for it in await management.call("GET", "/users") if it["name"] == "taskbell_timesheets"]
    return found[0] if found else None


async def role_exists(installation: Installation) -> bool:
    async with connected(installation.database_url) as connection:
        return bool(await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = 'taskbell_timesheets'"))
