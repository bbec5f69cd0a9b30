"""All steps of `taskbell setup`, in their order. Safe to run again at any time, and to run several at once.

A step brings one thing to the state that this version needs, and reports what it did and what it left out.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import partial

from taskbell.database import Database, quoted
from taskbell.errors import BrokerUnavailable, SettingsError, Unavailable
from taskbell.models import AppModel
from taskbell.setup import schema
from taskbell.setup.broker import LARGEST, declare, takes
from taskbell.setup.dead_letters import dead_letters
from taskbell.setup.leftovers import queues_left_over
from taskbell.setup.management import ManagementApi, management
from taskbell.setup.packages import Choice, sentences
from taskbell.setup.privileges import roles
from taskbell.setup.refusals import explained
from taskbell.setup.report import SetupReport
from taskbell.setup.roles import apply_roles, open_schemas, triggers_without_path
from taskbell.setup.settings import SetupSettings
from taskbell.setup.users import apply_users
from taskbell.setup.waiting import holders_named

__all__ = ["SetupReport", "SetupSettings", "set_up"]

PAUSE = 1.0
"""Seconds between two tries to reach a server."""

MIB = 1024 * 1024

Step = Callable[[], Awaitable[SetupReport]]


async def set_up(
    settings: SetupSettings,
    *,
    app_tables: bool,
    wait: float,
    say: Callable[[str], None],
    choice: Choice = Choice(),  # noqa: B008 - frozen
) -> SetupReport:
    """Makes everything that must exist before a service runs; returns what was done and what was left out.

    Args:
        app_tables: also make those of the web app's tables that are missing.
        wait: seconds to wait for each server, from the first time that it did not answer.
        say: called with a sentence about what is being waited for.
        choice: which of the installed packages get what they ask for.

    Raises:
        Unavailable: PostgreSQL or RabbitMQ did not answer in that time, or somebody held a lock in PostgreSQL.
        SettingsError: one of them refuses; the error names the remedy.
    """
    steps: Sequence[Step] = (
        partial(_database, settings, choice, say, app_tables=app_tables),
        partial(_topology, settings),
        partial(_sizes, settings),
        partial(_users, settings, choice),
        partial(_left_over, settings),
    )
    report = SetupReport(*sentences(choice, settings.app_schema))
    for step in steps:
        report += await _until_answered(step, wait, say)
        if report.is_last:
            break
    return report


async def _until_answered(step: Step, wait: float, say: Callable[[str], None]) -> SetupReport:
    """Takes a step, and repeats it for up to `wait` seconds while its server does not answer."""
    loop = asyncio.get_running_loop()
    deadline: float | None = None
    said = ""
    while True:
        try:
            return await step()
        except Unavailable as error:
            deadline = deadline or loop.time() + wait
            left = deadline - loop.time()
            if left <= 0:
                raise
            if said != str(error):
                said = str(error)
                say(f"waiting: {said}")
        await asyncio.sleep(min(PAUSE, left))


async def _database(
    settings: SetupSettings, choice: Choice, say: Callable[[str], None], *, app_tables: bool
) -> SetupReport:
    """Makes schema, tables and roles in one transaction, so that several setups take turns, and none stops halfway."""
    database = Database.connect(settings, name="taskbell setup", statement_timeout=None)
    every = roles(choice.granted)
    passwords = settings.passwords("database", every)
    try:
        with explained():
            async with (
                database.transaction() as transaction,
                holders_named(settings, transaction.connection, say),
            ):
                connection = transaction.connection
                found = await schema.migrate(connection, choice.granted)
                if found is not None and found > schema.head():
                    return SetupReport([_newer(found)], is_last=True)
                made = await schema.create_app_tables(connection, settings.app_schema) if app_tables else None
                applied = await apply_roles(connection, passwords, settings.app_schema, choice.granted)
                open_to_all = await open_schemas(connection, settings.app_schema) if passwords else []
                triggers = await triggers_without_path(connection, settings.app_schema)
    finally:
        await database.close()
    done = [f"PostgreSQL: {_version_sentence(found, schema.head())}"]
    left_out = []
    tables = ", ".join(sorted(table.name for table in AppModel.metadata.sorted_tables))
    if made is None:
        left_out.append(f"the app's tables {tables}: --with-app-tables makes them, for a demo, tests or a new app")
    elif made:
        done.append(f"PostgreSQL: made the app's tables {', '.join(sorted(made))} in schema {settings.app_schema}")
    else:
        done.append(f"PostgreSQL: the app's tables {tables} are there, in schema {settings.app_schema}")
    left_out += [
        f"schema {name}, in which PostgreSQL lets everybody make objects, also these roles: if the web app does not "
        f"rely on that, close it with REVOKE CREATE ON SCHEMA {quoted(name)} FROM PUBLIC"
        for name in open_to_all
    ]
    left_out += [
        f"trigger {name} on tasks: its function sets no search_path, so it fails in Taskbell's sessions if it names "
        f"anything without a schema; if it does, ALTER FUNCTION {function} SET search_path = "
        f"{quoted(settings.app_schema)}, pg_temp"
        for name, function in triggers
    ]
    if missing := [role for role in every if role not in passwords]:
        left_out.append(f"PostgreSQL roles for {', '.join(missing)}: <ROLE>_DATABASE_PASSWORD is not set")
    return SetupReport(done, left_out) + applied


def _version_sentence(found: str | None, wanted: str) -> str:
    if found is None:
        return f"made schema taskbell, version {wanted}"
    if found == wanted:
        return f"schema taskbell is there, version {wanted}"
    return f"brought schema taskbell from version {found} to {wanted}"


def _newer(found: str) -> str:
    return (
        f"PostgreSQL: schema taskbell has version {found}, newer than this Taskbell's {schema.head()}: "
        "nothing was done, because only the newer version's setup may change it"
    )


async def _topology(settings: SetupSettings) -> SetupReport:
    declared = await declare(settings.broker_url.get_secret_value())
    counts = f"{len(declared.exchanges)} exchanges, {len(declared.queues)} queues, {len(declared.bindings)} bindings"
    return SetupReport([f"RabbitMQ: {counts} are there"])


async def _sizes(settings: SetupSettings) -> SetupReport:
    """Looks at what may fill the broker. Nothing depends on this step, so setup does not fail with it."""
    url = settings.broker_url.get_secret_value()
    advice = []
    left_out = []
    try:
        if await takes(url, size := LARGEST + MIB):
            advice.append(
                f"RabbitMQ took a message of {size // MIB} MiB: anybody who may publish can fill its disk. Set "
                f"max_message_size = {LARGEST} in its configuration; Taskbell reads no body over 2 MiB"
            )
    except BrokerUnavailable as error:
        left_out.append(f"the test whether RabbitMQ takes messages that are too large: {error}")
    try:
        async with AsyncExitStack() as stack:
            there = settings.broker_management_url is not None
            api = await stack.enter_async_context(_management(settings)) if there else None
            advice += await dead_letters(url, api)
    except (BrokerUnavailable, SettingsError) as error:
        left_out.append(f"the look at the dead letters: {error}")
    return SetupReport(left_out=left_out, advice=advice)


async def _users(settings: SetupSettings, choice: Choice) -> SetupReport:
    every = roles(choice.granted)
    passwords = settings.passwords("broker", every)
    missing = [role for role in every if role not in passwords]
    left_out = [f"RabbitMQ users for {', '.join(missing)}: <ROLE>_BROKER_PASSWORD is not set"] if missing else []
    if not passwords:
        return SetupReport((), left_out)
    if settings.broker_management_url is None:
        return SetupReport(
            (), [f"RabbitMQ users for {', '.join(passwords)}: BROKER_MANAGEMENT_URL is not set", *left_out]
        )
    async with _management(settings) as api:
        applied = await apply_users(api, passwords, choice.granted)
    return SetupReport((), left_out) + applied


async def _left_over(settings: SetupSettings) -> SetupReport:
    """Looks for queues that nobody needs any more. Nothing depends on this step, so setup does not fail with it."""
    if settings.broker_management_url is None:
        return SetupReport()
    try:
        async with _management(settings) as api:
            return SetupReport((), (), await queues_left_over(api, settings.broker_url.get_secret_value()))
    except (BrokerUnavailable, SettingsError) as error:
        return SetupReport((), [f"the search for queues that nobody needs any more: {error}"])


def _management(settings: SetupSettings) -> AbstractAsyncContextManager[ManagementApi]:
    assert settings.broker_management_url is not None  # the steps check this first
    return management(settings.broker_management_url.get_secret_value(), settings.broker_url.get_secret_value())
