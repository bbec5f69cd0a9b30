"""`taskbell suppressions`: the addresses that get no mail, and how to lift that."""

import asyncio
from typing import Annotated

import typer

from taskbell.cli.access import asked
from taskbell.cli.console import print_json, print_table
from taskbell.errors import Mistake
from taskbell_notifier.addresses import stored_forms
from taskbell_notifier.repository import suppressions

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Show addresses that get no mail, and lift that.")


@app.command("list")
def list_all(
    address: Annotated[str | None, typer.Option(help="Only addresses that contain this.")] = None,
    reason: Annotated[str | None, typer.Option(help="Only those whose reason contains this.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Show at most so many.")] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """List suppressed addresses, the newest first."""
    rows = asyncio.run(
        asked(lambda transaction: suppressions.listed(transaction, address=address, reason=reason, limit=limit))
    )
    if as_json:
        print_json([dict(row) for row in rows])
    elif not rows:
        print("No such address is suppressed.")
    else:
        columns = ("address", "reason", "delivery_id", "created_at")
        print_table(columns, [[row[column] for column in columns] for row in rows])


@app.command()
def lift(
    addresses: Annotated[list[str] | None, typer.Argument(metavar="[ADDRESS]...", help="These addresses.")] = None,
    reason: Annotated[
        str | None, typer.Option(help="All whose reason contains this, such as `550 5.1.1`; with --since.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(metavar="ISO", help="All that were suppressed at this time or later, in UTC.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Lift suppressions: mail is sent to these addresses again, from the next mailing on.

    `taskbell deliveries resend --mailing ID --state suppressed` plans the mails that they missed.
    """
    if bool(addresses) == (since is not None):
        msg = "name addresses, or give --since for all that were suppressed from then on"
        raise Mistake(msg)
    if reason is not None and since is None:
        msg = "--reason narrows --since: give both"
        raise Mistake(msg)
    try:
        begin = suppressions.moment(since) if since is not None else None
    except ValueError:
        msg = f"--since {since!r} is not a time: write it as 2026-11-22T08:00"
        raise Mistake(msg) from None
    lifted = asyncio.run(
        asked(lambda transaction: suppressions.lift(transaction, addresses or [], since=begin, reason=reason))
    )
    missing = [it for it in addresses or [] if not {*stored_forms(it)} & {*lifted}]
    if as_json:
        print_json({"lifted": lifted, "not_suppressed": missing})
    else:
        print(f"{len(lifted)} lifted." if lifted else "No such address is suppressed.")
        for it in missing if lifted else []:
            print(f"{it} is not suppressed.")
    if addresses and not lifted:
        raise typer.Exit(1)
