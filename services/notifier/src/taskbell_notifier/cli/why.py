"""`taskbell mail why`: explains why somebody did or did not get a mail.

The ledger has the mails that were planned. If none was, the answer is in what a mailing would find of the user now, and
in what the schedules of the user's zone did last.
"""

import asyncio
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import typer
from sqlalchemy import Row
from sqlalchemy.exc import DBAPIError

from taskbell.cli.access import database
from taskbell.cli.console import print_json, print_table, shown
from taskbell.database import INSUFFICIENT_PRIVILEGE, sqlstate
from taskbell.errors import Mistake, TaskbellError
from taskbell.kinds import Kind, Statement
from taskbell.settings import load
from taskbell.zones import resolve_zone
from taskbell_notifier.cli.named import MAX_ID, kind_named
from taskbell_notifier.kinds.table import installed_kinds
from taskbell_notifier.repository.history import (
    deliveries_to,
    is_found,
    kinds_in_ledger,
    now,
    recipients_at,
    schedules_in,
    user_status,
)
from taskbell_notifier.settings import Preview


def why(
    user: Annotated[int | None, typer.Option(min=1, max=MAX_ID, help="Mails to this user.")] = None,
    address: Annotated[str | None, typer.Option(help="Mails to this address, or to users who have it.")] = None,
    kind: Annotated[str | None, typer.Option(help="Only mails of this kind.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="Show at most so many.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Show the mails to somebody and their states, the newest first."""
    if (user is None) == (address is None):
        msg = "give either --user or --address"
        raise Mistake(msg)
    name = None if kind is None else _checked_name(kind)
    rows = asyncio.run(_deliveries(user, address, name, limit))
    status = None if user is None else asyncio.run(_status(user))
    if as_json:
        print_json(rows)
        return
    if user is not None and status is None and not rows:
        msg = f"there is no user {user}, and the ledger has no mail to them"
        raise TaskbellError(msg)
    _print_deliveries(rows)
    if user is not None:
        _print_status(user, status)


def _print_deliveries(rows: list[dict[str, Any]]) -> None:
    if not rows:
        print("The ledger has no mail to them: none was planned, or it ended more than 90 days ago.")
        return
    columns = ("id", "created_at", "kind", "recipient", "period", "run", "state", "reason", "attempts", "ended_at")
    print_table(columns, [[row[column] for column in columns] for row in rows])
    for row in rows:
        if row["ended_at"] is None:
            print(_next_step(row))


def _next_step(row: dict[str, Any]) -> str:
    """What happens next to a mail that has not ended, and when."""
    mail = f"{row['kind']} mail of {row['period']}"
    if row["state"] == "sending":
        return (
            f"The {mail} is being sent by a process; if that has died, it is taken back at {shown(row['lease_until'])}."
        )
    if row["state"] == "unknown":
        return (
            f"The outcome of the last try is unknown for the {mail}: it is sent once more, or with "
            "UNKNOWN_POLICY=hold ends failed 48 hours after its time."
        )
    when = f"is tried next at {shown(row['next_attempt_at'])}" if row["next_attempt_at"] else "waits for its turn"
    return f"The {mail} {when}, and is given up at {shown(row['expires_at'])}."


def _print_status(user: int, status: Row[Any] | None) -> None:
    """What a mailing would find of the user now, and what the schedules of the user's zone did last."""
    if status is None:
        print(f"There is no user {user}.")
        return
    if not status.is_active:
        print(f"User {user} is inactive: inactive users get no mail.")
        return
    tasks = [f"{kind.name} {count}" for kind, count in zip(_kinds_with_conditions(), status.found, strict=True)]
    opted_out = f" They opted out of: {', '.join(status.opted_out)}." if status.opted_out else ""
    print(
        f"User {user} now has {status.open} open tasks. This many tasks would put them into a mailing now: "
        f"{', '.join(tasks)}.{opted_out}"
    )
    asyncio.run(_print_statements(user))
    asyncio.run(_print_schedules(resolve_zone(status.timezone) or load(Preview).zone))


async def _print_statements(user: int) -> None:
    """For each kind of a package with a statement: if a mailing would find the user now."""
    for kind in installed_kinds().planned:
        if not isinstance(kind.who, Statement):
            continue
        if "event" in kind.who.parameters:
            preview = f"taskbell mail preview {kind.name} --user {user} --event JSON"
            print(f"Who gets {kind.name} mails depends on the event: `{preview}` shows if they would.")
            continue
        async with database() as connected, connected.transaction() as transaction:
            try:
                found = await is_found(transaction, connected.app, user, kind, await now(transaction))
            except DBAPIError as error:
                if sqlstate(error) != INSUFFICIENT_PRIVILEGE:
                    raise
                print(f"Only the notifier's role can see if a {kind.name} mailing would find them.")
                continue
        print(f"A {kind.name} mailing would {'' if found else 'not '}find them now.")


async def _print_schedules(zone: ZoneInfo) -> None:
    """What the schedules of the zone did last: if the ledger has no row, the reason is mostly there."""
    async with database() as connected, connected.transaction() as transaction:
        try:
            rows = await schedules_in(transaction, zone.key)
        except DBAPIError as error:
            if sqlstate(error) != INSUFFICIENT_PRIVILEGE:
                raise
            print("This role cannot see what schedules did: ask as taskbell_operator.")
            return
    if not rows:
        print(f"No schedule has run in {zone.key} yet; `taskbell schedules status` shows all schedules.")
        return
    print(f"What schedules did last in {zone.key}, their zone:")
    columns = ("schedule", "last due", "status", "reason", "mailing", "now")
    print_table(columns, [(row.schedule, row.at, row.status, row.reason, _mailing(row), _pause(row)) for row in rows])
    print("`taskbell schedules history NAME` shows earlier times, `taskbell mail mailings` every mailing.")


def _mailing(row: Row[Any]) -> str:
    return "" if row.kind is None else f"{row.kind}: {row.state}, {row.planned} planned"


def _pause(row: Row[Any]) -> str:
    if not row.paused:
        return ""
    return f"paused: {row.note}" if row.note else "paused"


def _kinds_with_conditions() -> list[Kind]:
    return [kind for kind in installed_kinds().planned if not isinstance(kind.who, Statement)]


def _checked_name(name: str) -> str:
    """The name, if a kind has it or the ledger has a mail of it: its package may have been removed."""
    if name in installed_kinds() or name in asyncio.run(_names_in_ledger()):
        return name
    return kind_named(name).name


async def _names_in_ledger() -> list[str]:
    async with database() as connected, connected.transaction() as transaction:
        return list(await kinds_in_ledger(transaction))


async def _deliveries(user: int | None, address: str | None, kind: str | None, limit: int) -> list[dict[str, Any]]:
    """The newest ledger rows to that user or address."""
    async with database() as connected, connected.transaction() as transaction:
        recipients = [f"user:{user}"] if address is None else await recipients_at(transaction, connected.app, address)
        kinds = await kinds_in_ledger(transaction) if kind is None else [kind]
        return [dict(row) for row in await deliveries_to(transaction, recipients, kinds, limit=limit)]


async def _status(user: int) -> Row[Any] | None:
    """What a mailing would find of the user now; None: there is no such user."""
    async with database() as connected, connected.transaction() as transaction:
        return await user_status(transaction, connected.app, user, _kinds_with_conditions(), await now(transaction))
