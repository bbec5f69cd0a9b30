"""`taskbell commands`: how commands ended."""

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from taskbell.cli.console import print_json, print_table, shown
from taskbell.errors import Mistake, TaskbellError
from taskbell.spelling import did_you_mean

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Show how commands ended.")

STATES = ("done", "unchanged", "rejected", "failed")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

_LATEST = """
    SELECT message_id, routing_key, state, result, reason, attempts, correlation_id, received_at, finished_at
    FROM taskbell.command
    WHERE (CAST(:state AS text) IS NULL OR state = :state) AND (CAST(:key AS text) IS NULL OR routing_key = :key)
    ORDER BY finished_at DESC, message_id
    LIMIT :limit
"""

_ONE = """
    SELECT message_id, routing_key, body, state, result, reason, attempts, correlation_id, received_at, finished_at
    FROM taskbell.command
    WHERE message_id = :message_id
    ORDER BY tableoid <> 'taskbell.command'::regclass, received_at, finished_at
"""

_AWAITED = """
    SELECT message_id, envelope ->> 'routing_key' AS routing_key, CAST(body AS jsonb) AS body, 'waiting' AS state,
        'because ' || coalesce(reason, 'its mail has not ended') AS reason, received_at
    FROM taskbell.awaited_command
    WHERE message_id = :message_id
    ORDER BY received_at LIMIT 1
"""


@app.command("list")
def latest(
    state: Annotated[str | None, typer.Option(help=f"Only commands that ended so: {', '.join(STATES)}.")] = None,
    key: Annotated[str | None, typer.Option(help="Only commands with this routing key.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="The number of commands at most.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List commands, the last to end first."""
    if state is not None and state not in STATES:
        hint = did_you_mean(state, STATES) or "."
        msg = f"a command does not end {state!r}{hint} It ends {', '.join(STATES)}"
        raise Mistake(msg)
    rows = _queried(_LATEST, {"state": state, "key": key, "limit": limit})
    if as_json:
        print_json(rows)
    elif not rows:
        print("No such command is recorded.")
    else:
        columns = ("finished_at", "state", "routing_key", "message_id", "reason")
        print_table(columns, [[row[column] for column in columns] for row in rows])


@app.command("show")
def one(message_id: Annotated[str, typer.Argument(help="The command's message_id.")], as_json: AsJson = False) -> None:
    """Show the command of that message_id: its body, and how it ended. Then those that were refused under that id."""
    named = {"message_id": message_id}
    rows = _queried(_AWAITED, named) + _queried(_ONE, named)
    if not rows:
        msg = (
            f"no command {message_id!r} is recorded: it has not been handled yet, it has another id, or it ended more "
            "than 90 days ago. If it was an event, `taskbell mail mailings` shows what became of it"
        )
        raise TaskbellError(msg)
    if as_json:
        print_json(rows[0] | {"refused": rows[1:]})
    for place, row in enumerate([] if as_json else rows):
        if place:
            print()
        for name, value in row.items():
            print(f"{name:15} {shown(value)}".rstrip())


def _queried(sql: str, parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
    from sqlalchemy import text
    from sqlalchemy.dialects.postgresql import JSONB

    from taskbell.cli.access import database

    statement = text(sql).columns(**{name: JSONB for name in ("body", "result") if name in sql})

    async def query() -> list[dict[str, Any]]:
        async with database() as connected, connected.transaction() as transaction:
            return [dict(row) for row in await transaction.mappings(statement, parameters)]

    return asyncio.run(query())
