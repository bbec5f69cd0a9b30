"""`taskbell mail mailings`: shows the mailings that were asked for."""

import asyncio
import json
from typing import Annotated

import typer

from taskbell.cli.access import database
from taskbell.cli.console import print_json, print_table
from taskbell_notifier.repository.history import newest_mailings


def mailings(
    message_id: Annotated[str | None, typer.Argument(help="Only the mailing of this message.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="Show at most so many.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Show mailings and their results, the newest first."""

    async def ask() -> list[dict[str, object]]:
        async with database() as connected, connected.transaction() as transaction:
            return [dict(row) for row in await newest_mailings(transaction, message_id, limit=limit)]

    rows = asyncio.run(ask())
    if as_json:
        print_json([row | {"counts": json.loads(str(row["counts"])) if row["counts"] else None} for row in rows])
    elif not rows:
        print("No such mailing: its event has not been handled yet, or it ended more than 90 days ago.")
    else:
        columns = (
            "id",
            "inserted_at",
            "kind",
            "message_id",
            "timezone",
            "state",
            "planned",
            "already",
            "counts",
            "note",
        )
        print_table(columns, [[(row | {"counts": _counts(row)})[column] for column in columns] for row in rows])


def _counts(row: dict[str, object]) -> str:
    counts: dict[str, int] = json.loads(str(row["counts"])) if row["counts"] else {}
    return ", ".join(f"{count} {state}" for state, count in counts.items() if count)
