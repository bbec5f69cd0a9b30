"""Runs the demo on servers and services that run already, such as those of the compose stack.

Nothing happens twice there: the messages have the same ids each time, and after a complete run nothing is published
again for as long as the last command is stored (90 days).
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
from taskbell_devstack.actions import DemoOutcomes, mailings_completed, publish_all, report_mailed, until
from taskbell_devstack.databases import connect
from taskbell_devstack.errors import DemoFailed

READY = Path(tempfile.gettempdir()) / "taskbell-demo-ready"
"""This file exists from when the demo is complete until it is stopped. The container's health check looks for it."""

LOGS = "the logs of the services"

PREFIX = "demo"
"""The beginning of all message_ids of the demo: if it is cut off and started again, nothing happens twice."""

LAST = f"{PREFIX}-status-change"
"""The message_id of the demo's last command."""


class GivenServers(Environment):
    """The URLs of the servers. The database's user must be allowed to write to the web app's tables."""

    database_url: SecretStr = Field(description="PostgreSQL, postgresql://user:password@host:5432/database")
    broker_url: BrokerUrl = Field(description="RabbitMQ, amqp://user:password@host:5672/")
    report_recipients: OptionalText = Field(default=None, description="Who gets the daily report")


async def run(servers: GivenServers, say: Callable[[str], None]) -> DemoOutcomes | None:
    """Load the data into an empty database, publish, and return when all of it has taken effect.

    Returns None if the demo was run here before; then nothing is done.

    Raises DemoFailed if the database holds other data, or something does not happen in time.
    """
    database_url = servers.database_url.get_secret_value()
    connection = await connect(database_url)
    try:
        if await connection.fetchval("SELECT EXISTS (SELECT FROM taskbell.command WHERE message_id = $1)", LAST):
            return None
        if await _is_empty(connection):
            say("Loading three teams, twelve people and two hundred tasks")
            await demo_data.load(database_url, datetime.now(UTC))
        say("Publishing: three mailings, a report, a cleanup, a change of a task's status")
        outcomes = await publish_all(servers.broker_url.get_secret_value(), prefix=PREFIX)
        mailings = outcomes.mailings
        await until(lambda: mailings_completed(connection, mailings), "completion of the three mailings", see=LOGS)
        if servers.report_recipients:
            first = servers.report_recipients.split(",")[0].strip()
            await until(lambda: report_mailed(connection, outcomes.report, first), "the report's mail", see=LOGS)
    finally:
        await connection.close()
    return outcomes


async def _is_empty(connection: asyncpg.Connection) -> bool:
    """Whether the web app's tables are empty. False: an earlier demo filled them and was then cut off.

    Raises DemoFailed if they hold any other data, because the demo must not overwrite those.
    """
    people = {
        (row["id"], row["email"]) for row in await connection.fetch("SELECT id, email FROM public.users LIMIT 1000")
    }
    if people == {(person.id, person.email) for person in demo_data.PEOPLE}:
        return False
    filled = "SELECT EXISTS (SELECT FROM public.tasks) OR EXISTS (SELECT FROM public.projects)"
    if people or await connection.fetchval(filled):
        raise DemoFailed(
            "The tables users, projects and tasks hold other data, but the demo fills only an empty database. Set "
            "DATABASE_URL to an empty one, or leave the demo out."
        )
    return True


async def stay() -> None:
    """Make the file for the health check, and wait for SIGTERM or SIGINT."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    READY.touch()
    try:
        await stopped.wait()
    finally:
        READY.unlink(missing_ok=True)
