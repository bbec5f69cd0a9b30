"""The demo on servers and services that run already, such as those of the compose stack.

Nothing happens twice there: its messages have the same ids each time, and once all has happened nothing is published
again as long as its last command is remembered (90 days).
"""

import asyncio
import signal
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
from pydantic import Field, SecretStr

from taskbell.settings import BrokerUrl, Environment, OptionalText
from taskbell_devstack import demo_data
from taskbell_devstack.errors import DemoFailed
from taskbell_devstack.happenings import Happened, mailings_completed, publish_all, report_mailed, until

READY = Path(tempfile.gettempdir()) / "taskbell-demo-ready"
"""Exists while the demo, having done all, stays: a container's health check looks for it."""

LOGS = "the logs of the services"

PREFIX = "demo"
"""Begins the message_ids of all that the demo publishes: cut off and started again, it makes nothing happen twice."""

LAST = f"{PREFIX}-status-change"
"""The last of them."""


class GivenServers(Environment):
    """Where the servers are. The database's user must be allowed to write the web app's tables."""

    database_url: SecretStr = Field(description="PostgreSQL, postgresql://user:password@host:5432/database")
    broker_url: BrokerUrl = Field(description="RabbitMQ, amqp://user:password@host:5672/")
    report_recipients: OptionalText = Field(default=None, description="Who gets the daily report")


async def run(servers: GivenServers, say: Callable[[str], None]) -> Happened | None:
    """Load the data into an empty database, publish, and return when all of it has taken effect.

    None: it has happened here before, and nothing is done again.

    Raises DemoFailed where the database holds other people's data, or something does not happen in time.
    """
    database_url = servers.database_url.get_secret_value()
    connection = await asyncpg.connect(database_url)
    try:
        if await connection.fetchval("SELECT EXISTS (SELECT FROM taskbell.command WHERE message_id = $1)", LAST):
            return None
        if await _is_empty(connection):
            say("Loading three teams, twelve people and two hundred tasks")
            await demo_data.load(database_url, datetime.now(UTC))
        say("Publishing: three mailings, a report, a cleanup, a change of a task's status")
        happened = await publish_all(servers.broker_url.get_secret_value(), prefix=PREFIX)
        mailings = happened.mailings
        await until(lambda: mailings_completed(connection, mailings), "completion of the three mailings", see=LOGS)
        if servers.report_recipients:
            first = servers.report_recipients.split(",")[0].strip()
            await until(lambda: report_mailed(connection, happened.report, first), "the report's mail", see=LOGS)
    finally:
        await connection.close()
    return happened


async def _is_empty(connection: asyncpg.Connection) -> bool:
    """Whether the web app's tables hold nothing yet; False: an earlier demo was cut off after it had filled them.

    Raises DemoFailed where they hold anything else: it is not ours to overwrite.
    """
    people = {(row["id"], row["email"]) for row in await connection.fetch("SELECT id, email FROM users LIMIT 1000")}
    if people == {(person.id, person.email) for person in demo_data.PEOPLE}:
        return False
    filled = "SELECT EXISTS (SELECT FROM tasks) OR EXISTS (SELECT FROM projects)"
    if people or await connection.fetchval(filled):
        raise DemoFailed(
            "The tables users, projects and tasks hold data that are not the demo's: it fills an empty database only. "
            "Name another one, or leave the demo out."
        )
    return True


async def stay() -> None:
    """Tell the health check that all is done, and wait until told to stop."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    READY.touch()
    try:
        await stopped.wait()
    finally:
        READY.unlink(missing_ok=True)
