"""All steps of `taskbell setup`, in their order. Safe to run again at any time, and to run several at once.

A step brings one thing to the state that this version needs, and reports what it did and what it left out.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from pydantic import Field, SecretStr

from taskbell.database import Database, quoted
from taskbell.errors import Unavailable
from taskbell.models import AppModel
from taskbell.settings import CommonSettings, OptionalSecret
from taskbell.setup import schema
from taskbell.setup.broker import declare
from taskbell.setup.privileges import ROLES, RoleName, login
from taskbell.setup.refusals import explained
from taskbell.setup.roles import apply_roles, open_schemas
from taskbell.setup.users import apply_users

PAUSE = 1.0
"""Seconds between two tries to reach a server."""

_ROLE = "If set, setup makes the PostgreSQL role taskbell_{} with this password"
_USER = "If set, and BROKER_MANAGEMENT_URL too, setup makes the RabbitMQ user taskbell_{} with this password"


class SetupSettings(CommonSettings):
    """The settings of setup. DATABASE_URL and BROKER_URL are those of an administrator here."""

    scheduler_database_password: OptionalSecret = Field(default=None, description=_ROLE.format("scheduler"))
    notifier_database_password: OptionalSecret = Field(default=None, description=_ROLE.format("notifier"))
    maintenance_database_password: OptionalSecret = Field(default=None, description=_ROLE.format("maintenance"))
    app_database_password: OptionalSecret = Field(default=None, description=_ROLE.format("app"))
    operator_database_password: OptionalSecret = Field(default=None, description=_ROLE.format("operator"))
    scheduler_broker_password: OptionalSecret = Field(default=None, description=_USER.format("scheduler"))
    notifier_broker_password: OptionalSecret = Field(default=None, description=_USER.format("notifier"))
    maintenance_broker_password: OptionalSecret = Field(default=None, description=_USER.format("maintenance"))
    app_broker_password: OptionalSecret = Field(default=None, description=_USER.format("app"))
    operator_broker_password: OptionalSecret = Field(default=None, description=_USER.format("operator"))

    def passwords(self, server: Literal["database", "broker"]) -> dict[RoleName, str]:
        """The passwords that are set, by role."""
        given: dict[RoleName, SecretStr | None] = {role: getattr(self, f"{role}_{server}_password") for role in ROLES}
        return {role: secret.get_secret_value() for role, secret in given.items() if secret is not None}


@dataclass(frozen=True, slots=True)
class SetupReport:
    """Sentences about what a step did, and about what it left out."""

    done: Sequence[str]
    left_out: Sequence[str] = ()
    is_last: bool = False
    """Whether the further steps are left out."""


Step = Callable[[], Awaitable[SetupReport]]


async def set_up(settings: SetupSettings, *, app_tables: bool, wait: float, say: Callable[[str], None]) -> SetupReport:
    """Makes everything that must exist before a service runs; returns what was done and what was left out.

    Args:
        app_tables: also make those of the web app's tables that are missing.
        wait: seconds to wait for each server, from the first time that it did not answer.
        say: called with a sentence about what is being waited for.

    Raises:
        Unavailable: PostgreSQL or RabbitMQ did not answer in that time.
        SettingsError: one of them refuses; the error names the remedy.
    """
    steps: Sequence[Step] = (
        partial(_database, settings, app_tables=app_tables),
        partial(_topology, settings),
        partial(_users, settings),
    )
    done: list[str] = []
    left_out: list[str] = []
    for step in steps:
        report = await _until_answered(step, wait, say)
        done += report.done
        left_out += report.left_out
        if report.is_last:
            break
    return SetupReport(done, left_out)


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


async def _database(settings: SetupSettings, *, app_tables: bool) -> SetupReport:
    """Makes schema, tables and roles in one transaction, so that several setups take turns, and none stops halfway."""
    database = Database.connect(settings, name="taskbell setup", statement_timeout=None)
    passwords = settings.passwords("database")
    try:
        with explained():
            async with database.transaction() as transaction:
                connection = transaction.connection
                found = await schema.migrate(connection)
                if found is not None and found > schema.head():
                    return SetupReport([_newer(found)], is_last=True)
                made = await schema.create_app_tables(connection, settings.app_schema) if app_tables else None
                await apply_roles(connection, passwords, settings.app_schema)
                open_to_all = await open_schemas(connection, settings.app_schema) if passwords else []
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
    if passwords:
        done.append(f"PostgreSQL: the roles {_logins(passwords)} are there, with their grants")
    left_out += [
        f"schema {name}, in which PostgreSQL lets everybody make objects, also these roles: if the web app does not "
        f"rely on that, close it with REVOKE CREATE ON SCHEMA {quoted(name)} FROM PUBLIC"
        for name in open_to_all
    ]
    if missing := [role for role in ROLES if role not in passwords]:
        left_out.append(f"PostgreSQL roles for {', '.join(missing)}: <ROLE>_DATABASE_PASSWORD is not set")
    return SetupReport(done, left_out)


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


async def _users(settings: SetupSettings) -> SetupReport:
    passwords = settings.passwords("broker")
    missing = [role for role in ROLES if role not in passwords]
    left_out = [f"RabbitMQ users for {', '.join(missing)}: <ROLE>_BROKER_PASSWORD is not set"] if missing else []
    if not passwords:
        return SetupReport([], left_out)
    if settings.broker_management_url is None:
        return SetupReport(
            [], [f"RabbitMQ users for {', '.join(passwords)}: BROKER_MANAGEMENT_URL is not set", *left_out]
        )
    await apply_users(
        settings.broker_management_url.get_secret_value(), settings.broker_url.get_secret_value(), passwords
    )
    return SetupReport([f"RabbitMQ: the users {_logins(passwords)} are there, with their permissions"], left_out)


def _logins(roles: Iterable[RoleName]) -> str:
    return ", ".join(map(login, roles))
