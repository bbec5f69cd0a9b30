"""`taskbell mail`: what a mail looks like, and why somebody did or did not get one."""

import asyncio
import json
import tempfile
import webbrowser
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import typer
from sqlalchemy import Row
from sqlalchemy.exc import DBAPIError

from taskbell.cli.access import database
from taskbell.cli.console import Mistake, print_json, print_table, shown
from taskbell.database import sqlstate
from taskbell.errors import TaskbellError
from taskbell.kinds import Kind, Recipient, Statement
from taskbell.settings import load
from taskbell.zones import resolve_zone, zone_named
from taskbell_notifier.kinds.table import UnknownKind, installed_kinds
from taskbell_notifier.mail.render import Renderer
from taskbell_notifier.repository.contents import of_users
from taskbell_notifier.repository.history import (
    deliveries_to,
    is_found,
    kinds_in_ledger,
    newest_mailings,
    now,
    person,
    recipients_at,
    schedules_in,
    user_status,
)
from taskbell_notifier.settings import Preview

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="What a mail looks like, and why somebody did or did not get one.",
)

MAX_ID = 2**63 - 1

INSUFFICIENT_PRIVILEGE = "42501"

A_KIND = "A kind of mail: reminder, overdue, weekly, report, test, or one of an installed package."


@app.command()
def preview(
    kind: Annotated[str, typer.Argument(help=A_KIND)],
    user: Annotated[
        int | None, typer.Option(min=1, max=MAX_ID, help="As this user would get it now; else with samples.")
    ] = None,
    html: Annotated[bool, typer.Option("--html", help="Print the HTML part.")] = False,
    show: Annotated[bool, typer.Option("--open", help="Show the HTML part in a browser.")] = False,
) -> None:
    """Show a mail without sending it."""
    moment = datetime.now(UTC)
    wanted = _kind(kind)
    appearance = load(Preview)
    renderer = Renderer(installed_kinds(), appearance.links, appearance.product_name)
    if user is None:
        recipient, content = Recipient(None, "Ada", "ada@example.com", _utc()), wanted.sample(moment)
    elif wanted.is_planned:
        recipient, content = asyncio.run(_addressed(wanted, user, moment, appearance.zone))
    elif wanted.is_instant:
        msg = f"what a {wanted.name} mail says comes with its event: leave out --user to see a sample"
        raise Mistake(msg)
    else:
        msg = f"a {wanted.name} mail does not go to a user: leave out --user"
        raise Mistake(msg)
    rendered = renderer.render(wanted, recipient, content, at=moment, now=moment)
    if show:
        page = Path(tempfile.mkdtemp(prefix="taskbell-mail-")) / f"{wanted.name}.html"
        page.write_text(rendered.html, encoding="utf-8")
        webbrowser.open(page.as_uri())
        print(page)
    elif html:
        print(rendered.html)
    else:
        print(f"Subject: {rendered.subject}\n\n{rendered.text}")


@app.command()
def why(
    user: Annotated[int | None, typer.Option(min=1, max=MAX_ID, help="Mails to this user.")] = None,
    address: Annotated[str | None, typer.Option(help="Mails to this address, or to users who have it.")] = None,
    kind: Annotated[str | None, typer.Option(help="Only mails of this kind.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="At most so many.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Say what became of somebody's mails, the newest first."""
    if (user is None) == (address is None):
        msg = "give --user or --address, one of the two"
        raise Mistake(msg)
    wanted = None if kind is None else _named(kind)

    async def ask() -> tuple[list[dict[str, Any]], Row[Any] | None]:
        async with database() as connected, connected.transaction() as transaction:
            recipients = (
                [f"user:{user}"] if address is None else await recipients_at(transaction, connected.app, address)
            )
            kinds = await kinds_in_ledger(transaction) if wanted is None else [wanted]
            rows = [dict(row) for row in await deliveries_to(transaction, recipients, kinds, limit=limit)]
            return rows, None if user is None else await user_status(
                transaction, connected.app, user, _by_conditions(), await now(transaction)
            )

    rows, stands = asyncio.run(ask())
    if as_json:
        print_json(rows)
        return
    if user is not None and stands is None and not rows:
        msg = f"there is no user {user}, and the ledger has no mail to them"
        raise TaskbellError(msg)
    if not rows:
        print("The ledger has no mail to them: none was planned, or it ended more than 90 days ago.")
    else:
        columns = ("created_at", "kind", "recipient", "period", "run", "state", "reason", "attempts", "ended_at")
        print_table(columns, [[row[column] for column in columns] for row in rows])
        for row in rows:
            if row["ended_at"] is None:
                print(_open(row))
    if user is not None:
        print(_stands(user, stands))
        if stands is not None and stands.is_active:
            asyncio.run(_tell_statements(user))
    if stands is not None and stands.is_active:
        asyncio.run(_tell_schedules(resolve_zone(stands.timezone) or load(Preview).zone))


@app.command()
def mailings(
    message_id: Annotated[str | None, typer.Argument(help="Only the mailing of this message.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="At most so many.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Say what became of the mailings that were asked for, the newest first."""

    async def ask() -> list[dict[str, object]]:
        async with database() as connected, connected.transaction() as transaction:
            return [dict(row) for row in await newest_mailings(transaction, message_id, limit=limit)]

    rows = asyncio.run(ask())
    if as_json:
        print_json([row | {"counts": json.loads(str(row["counts"])) if row["counts"] else None} for row in rows])
    elif not rows:
        print("No such mailing: its event has not been handled yet, or it was over more than 90 days ago.")
    else:
        columns = ("inserted_at", "kind", "message_id", "timezone", "state", "planned", "already", "counts", "note")
        print_table(columns, [[(row | {"counts": _counts(row)})[column] for column in columns] for row in rows])


def _counts(row: dict[str, object]) -> str:
    counts: dict[str, int] = json.loads(str(row["counts"])) if row["counts"] else {}
    return ", ".join(f"{count} {state}" for state, count in counts.items() if count)


async def _tell_schedules(zone: ZoneInfo) -> None:
    """What the schedules of their zone did last: where the ledger has no row, the reason is mostly there."""
    async with database() as connected, connected.transaction() as transaction:
        try:
            rows = await schedules_in(transaction, zone.key)
        except DBAPIError as error:
            if sqlstate(error) != INSUFFICIENT_PRIVILEGE:
                raise
            print("What schedules did is for the operator's role to see: ask as taskbell_operator.")
            return
    if not rows:
        print(f"No schedule has run in {zone.key} yet; `taskbell schedules status` tells of all.")
        return
    print(f"What schedules did last in {zone.key}, their zone:")
    columns = ("schedule", "last due", "status", "reason", "mailing", "now")
    print_table(columns, [(row.schedule, row.at, row.status, row.reason, _mailing(row), _now(row)) for row in rows])
    print("`taskbell schedules history NAME` tells of earlier times, `taskbell mail mailings` of every mailing.")


def _mailing(row: Row[Any]) -> str:
    return "" if row.kind is None else f"{row.kind}: {row.state}, {row.planned} planned"


def _now(row: Row[Any]) -> str:
    if not row.paused:
        return ""
    return f"paused: {row.note}" if row.note else "paused"


def _open(row: dict[str, Any]) -> str:
    """When a mail that has not ended goes on."""
    mail = f"The {row['kind']} mail of {row['period']}"
    if row["state"] == "sending":
        return f"{mail} is with a process; if that has died, it is taken back at {shown(row['lease_until'])}."
    if row["state"] == "unknown":
        return (
            f"What became of the last try is unknown of {mail[0].lower()}{mail[1:]}: it is sent once more, or with "
            "UNKNOWN_POLICY=hold ends failed 48 hours after its time."
        )
    when = f"is tried next at {shown(row['next_attempt_at'])}" if row["next_attempt_at"] else "waits for its turn"
    return f"{mail} {when}, and is given up at {shown(row['expires_at'])}."


def _by_conditions() -> list[Kind]:
    return [kind for kind in installed_kinds().planned if not isinstance(kind.who, Statement)]


def _stands(user: int, row: Row[Any] | None) -> str:
    """What a mailing would find of them now, in a sentence: the answer if the ledger has no row."""
    if row is None:
        return f"There is no user {user}."
    if not row.is_active:
        return f"User {user} is inactive: nobody inactive is mailed."
    tasks = [f"{kind.name} {count}" for kind, count in zip(_by_conditions(), row.found, strict=True)]
    said = (
        f"Now, user {user} has {row.open} open tasks. So many tasks would put them into a mailing of this moment: "
        f"{', '.join(tasks)}."
    )
    return f"{said} They opted out of: {', '.join(row.opted_out)}." if row.opted_out else said


async def _tell_statements(user: int) -> None:
    """Whether the mailings of packages that have a statement of their own would find the user."""
    for kind in installed_kinds().planned:
        if not isinstance(kind.who, Statement):
            continue
        async with database() as connected, connected.transaction() as transaction:
            try:
                found = await is_found(transaction, connected.app, user, kind, await now(transaction))
            except DBAPIError as error:
                if sqlstate(error) != INSUFFICIENT_PRIVILEGE:
                    raise
                print(f"Whether a {kind.name} mailing would find them is for the notifier's role to see.")
                continue
        print(f"A {kind.name} mailing of this moment would {'' if found else 'not '}find them.")


def _kind(name: str) -> Kind:
    try:
        return installed_kinds()[name]
    except UnknownKind as error:
        raise Mistake(str(error)) from None


def _named(name: str) -> str:
    """The name itself if a kind has it, or the ledger a mail of it: its package may have been removed."""
    if name in installed_kinds():
        return name

    async def ask() -> bool:
        async with database() as connected, connected.transaction() as transaction:
            return name in await kinds_in_ledger(transaction)

    return name if asyncio.run(ask()) else _kind(name).name


async def _addressed(kind: Kind, user: int, at: datetime, zone: ZoneInfo) -> tuple[Recipient, object]:
    async with database() as connected, connected.transaction() as transaction:
        row = await person(transaction, connected.app, user)
        if row is None:
            msg = f"there is no user {user}"
            raise TaskbellError(msg)
        content = (await of_users(transaction, connected.app, kind, at, [user])).get(user)
    if content is None:
        msg = f"user {user} has nothing to be told: there would be no {kind.name} mail"
        raise TaskbellError(msg)
    theirs = resolve_zone(row.timezone) or zone
    return Recipient(user, row.name or "", row.email or "", theirs, row.locale), content


def _utc() -> ZoneInfo:
    return zone_named("UTC")
