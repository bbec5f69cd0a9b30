"""`taskbell mail`: what a mail looks like, and why somebody did or did not get one."""

import asyncio
import json
import tempfile
import webbrowser
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import typer
from sqlalchemy import Row
from sqlalchemy.exc import DBAPIError

from taskbell.cli.access import database
from taskbell.cli.console import Mistake, did_you_mean, print_json, print_table, shown
from taskbell.contracts import MailKind
from taskbell.database import sqlstate
from taskbell.errors import TaskbellError
from taskbell.settings import load
from taskbell.zones import resolve_zone
from taskbell_notifier.domain import MAILINGS, SELECT, Recipient, Selection, Task
from taskbell_notifier.mail.render import Rendered, Renderer
from taskbell_notifier.mail.report import read_report
from taskbell_notifier.repository.contents import Material
from taskbell_notifier.repository.history import (
    deliveries_to,
    newest_mailings,
    person,
    recipients_at,
    schedules_in,
    standing,
)
from taskbell_notifier.settings import Preview

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="What a mail looks like, and why somebody did or did not get one.",
)

MAX_ID = 2**63 - 1

INSUFFICIENT_PRIVILEGE = "42501"

SAMPLE_REPORT = {
    "by_status": {"pending": 31, "in_progress": 12, "done": 240},
    "by_priority": {"low": 9, "medium": 20, "high": 11, "urgent": 3},
    "overdue": 5,
    "created": 14,
    "completed": 11,
}


@app.command()
def preview(
    kind: Annotated[str, typer.Argument(help=f"One of {', '.join(MailKind)}.")],
    user: Annotated[
        int | None, typer.Option(min=1, max=MAX_ID, help="As this user would get it now; else with samples.")
    ] = None,
    html: Annotated[bool, typer.Option("--html", help="Print the HTML part.")] = False,
    show: Annotated[bool, typer.Option("--open", help="Show the HTML part in a browser.")] = False,
) -> None:
    """Show a mail without sending it."""
    now = datetime.now(UTC)
    wanted = _kind(kind)
    appearance = load(Preview)
    renderer = Renderer(appearance.links, appearance.product_name)
    if user is None:
        rendered = _sample(renderer, wanted, now)
    elif wanted in MAILINGS:
        recipient, selection = asyncio.run(_addressed(wanted, user, now, appearance.zone))
        rendered = renderer.mailing(wanted, recipient, selection, occurrence=now, now=now)
    else:
        msg = f"a {wanted.value} mail goes to no user: leave out --user"
        raise Mistake(msg)
    if show:
        page = Path(tempfile.mkdtemp(prefix="taskbell-mail-")) / f"{wanted.value}.html"
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
    kind: Annotated[str | None, typer.Option(help=f"Only one of {', '.join(MailKind)}.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="At most so many.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Say what became of somebody's mails, the newest first."""
    if (user is None) == (address is None):
        msg = "give --user or --address, one of the two"
        raise Mistake(msg)
    wanted = None if kind is None else _kind(kind)

    async def ask() -> tuple[list[dict[str, Any]], Row[Any] | None]:
        async with database() as connected, connected.transaction() as tx:
            recipients = [f"user:{user}"] if address is None else await recipients_at(tx, connected.app, address)
            rows = [dict(row) for row in await deliveries_to(tx, recipients, wanted, limit=limit)]
            return rows, None if user is None else await standing(tx, connected.app, user)

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
        asyncio.run(_tell_schedules(resolve_zone(stands.timezone) or load(Preview).zone))


@app.command()
def mailings(
    message_id: Annotated[str | None, typer.Argument(help="Only the mailing of this message.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="At most so many.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Say what became of the mailings that were asked for, the newest first."""

    async def ask() -> list[dict[str, object]]:
        async with database() as connected, connected.transaction() as tx:
            return [dict(row) for row in await newest_mailings(tx, message_id, limit=limit)]

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
    async with database() as connected, connected.transaction() as tx:
        try:
            rows = await schedules_in(tx, zone.key)
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


def _stands(user: int, row: Row[Any] | None) -> str:
    """What a mailing would find of them now, in a sentence: the answer where the ledger has no row."""
    if row is None:
        return f"There is no user {user}."
    if not row.is_active:
        return f"User {user} is inactive: nobody inactive is mailed."
    said = (
        f"Now, user {user} has {row.open} open tasks: {row.reminder} due within 24 hours (reminder), "
        f"{row.overdue} overdue (overdue). The summary of the week needs an open task, or one completed in it."
    )
    return f"{said} They opted out of: {', '.join(row.opted_out)}." if row.opted_out else said


def _kind(name: str) -> MailKind:
    known = [kind.value for kind in MailKind]
    if name not in known:
        msg = f"there is no kind of mail {name!r}{did_you_mean(name, known)} There are {', '.join(known)}"
        raise Mistake(msg)
    return MailKind(name)


async def _addressed(kind: MailKind, user: int, now: datetime, zone: ZoneInfo) -> tuple[Recipient, Selection]:
    async with database() as connected, connected.transaction() as tx:
        row = await person(tx, connected.app, user)
        if row is None:
            msg = f"there is no user {user}"
            raise TaskbellError(msg)
        selection = (await Material(connected.app).selections(tx, kind, now, [user])).get(user)
    if selection is None:
        msg = f"user {user} has nothing to be told: there would be no {kind.value} mail"
        raise TaskbellError(msg)
    theirs = resolve_zone(row.timezone) or zone
    return Recipient(user, row.name or "", row.email or "", theirs, row.locale), selection


def _sample(renderer: Renderer, kind: MailKind, now: datetime) -> Rendered:
    recipient = Recipient(None, "Ada", "ada@example.com", _utc())
    if kind is MailKind.TEST:
        return renderer.test(recipient, now=now)
    if kind is MailKind.REPORT:
        return renderer.report(recipient, read_report(now.date(), now, SAMPLE_REPORT), now=now)
    selection = SELECT[kind](_sample_tasks(now), now)
    assert selection is not None  # the samples have something for every kind
    return renderer.mailing(kind, recipient, selection, occurrence=now, now=now)


def _sample_tasks(now: datetime) -> list[Task]:
    samples = (
        ("Renew the certificate of the web server", "Platform", "in_progress", "urgent", -9),
        ("Answer the auditors", "Finance", "pending", "high", -2),
        ("Review the release notes", "Platform", "pending", "medium", 0),
        ("Book the room for the retrospective", None, "pending", "low", 3),
    )
    return [
        Task(number, title, project, status, priority, now + timedelta(days=days, hours=5), None)
        for number, (title, project, status, priority, days) in enumerate(samples, 1)
    ]


def _utc() -> ZoneInfo:
    zone = resolve_zone("UTC")
    assert zone is not None
    return zone
