"""Runs the demo on private servers, until the mails are in the inbox."""

import asyncio
import imaplib
import re
import subprocess
import sys
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any

import asyncpg

from taskbell_devstack import demo_data, inbox
from taskbell_devstack.actions import DemoOutcomes, mailings_completed, publish_all, report_mailed, until
from taskbell_devstack.databases import connect
from taskbell_devstack.environment import REPORTS_GO_TO, environment, environment_of, services
from taskbell_devstack.errors import DemoFailed
from taskbell_devstack.ports import LOOPBACK
from taskbell_devstack.processes import tail
from taskbell_devstack.stack import Stack
from taskbell_devstack.state import StackState

LOGS = "the logs in the folder log of .dev"
SETUP = "from taskbell.cli import main; main()"


async def run(stack: Stack, say: Callable[[str], None]) -> DemoOutcomes:
    """Start everything, load the data, publish, and return when all of it has taken effect and is in the inbox.

    May be run again while everything runs: the data get new times, and all mails are sent once more.

    Raises DevstackError if something does not start, DemoFailed if something does not happen in time.
    """
    state = await asyncio.to_thread(stack.up)
    assert state.postgresql is not None
    assert state.rabbitmq is not None
    say("Making the database's tables, the broker's queues, and a role for each service")
    await asyncio.to_thread(set_up, stack)
    say("Starting the services")
    wanted = services(state)
    # Restart services that run already: whoever runs the demo again may have changed their code.
    await asyncio.to_thread(stack.stop, *(service.name for service in wanted))
    state = await asyncio.to_thread(stack.run_services, wanted)
    assert state.postgresql is not None
    connection = await connect(state.postgresql.url)
    try:
        await demo_data.load(state.postgresql.url, datetime.now(UTC))
        say("Publishing: three mailings, a report, a cleanup, a change of a task's status")
        if await connection.fetchval("SELECT EXISTS (SELECT FROM taskbell.delivery)"):
            say("The mailings are forced: without that, nobody who had a mail today would be mailed again")
        return await while_all_run(stack, _publish_and_wait(connection, state))
    finally:
        await connection.close()


def set_up(stack: Stack) -> None:
    """Run `taskbell setup --with-app-tables` on the stack's servers, as their administrator, with no other settings."""
    done = subprocess.run(
        [sys.executable, "-c", SETUP, "setup", "--with-app-tables"],
        env=environment(stack.state),
        cwd=stack.directory,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise DemoFailed(f"taskbell setup failed:\n{done.stderr or done.stdout}")


async def _publish_and_wait(connection: asyncpg.Connection, state: StackState) -> DemoOutcomes:
    assert state.inbox is not None
    imap_port = state.inbox.imap_port
    # As the web app would, whose user may publish commands and events and nothing else.
    outcomes = await publish_all(environment_of("app", state)["BROKER_URL"])
    messages = outcomes.mailings
    await until(lambda: mailings_completed(connection, messages), "completion of the three mailings", see=LOGS)
    await until(lambda: report_mailed(connection, outcomes.report, REPORTS_GO_TO), "the report's mail", see=LOGS)
    wanted = await _sent(connection, messages)
    mailed = f"{len(wanted)} mails in the inbox"
    await until(lambda: asyncio.to_thread(_in_inbox, imap_port, wanted), mailed, see=LOGS)
    return outcomes


async def while_all_run(stack: Stack, work: Coroutine[Any, Any, DemoOutcomes]) -> DemoOutcomes:
    """Do the work; if a service ends meanwhile, raise DemoFailed with the end of its log."""
    working = asyncio.create_task(work)
    try:
        while True:
            done, _ = await asyncio.wait([working], timeout=1)
            if done:
                return working.result()
            for name in stack.state.services:
                if not stack.runs(name):
                    log = stack.directory / "log" / f"{name}.log"
                    raise DemoFailed(f"The {name} has ended. The end of {log}:\n{tail(log)}")
    finally:
        working.cancel()


async def _sent(connection: asyncpg.Connection, messages: list[str]) -> set[str]:
    """The Message-IDs of the mails that these mailings sent."""
    rows = await connection.fetch(
        """
        SELECT d.mail_message_id FROM taskbell.delivery d JOIN taskbell.mailing m ON m.id = d.mailing_id
        WHERE m.message_id = ANY($1) AND d.state = 'sent'
        """,
        messages,
    )
    return {row["mail_message_id"] for row in rows}


def _in_inbox(port: int, wanted: set[str]) -> bool:
    """Whether all mails with these Message-IDs are in the inbox."""
    with imaplib.IMAP4(LOOPBACK, port, timeout=30) as reader:
        reader.login(inbox.USER, inbox.PASSWORD)
        reader.select("INBOX", readonly=True)
        _, found = reader.fetch("1:*", "(BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)])")
    headers = b"".join(it[1] for it in found if isinstance(it, tuple)).decode("ascii", "replace")
    return wanted <= set(re.findall(r"(?i)message-id:\s*(\S+)", headers))
