"""Prints what the demo did."""

import json
from typing import Any

import asyncpg
from rich.console import Console
from rich.table import Table

from taskbell_devstack.actions import DemoOutcomes
from taskbell_devstack.databases import connect
from taskbell_devstack.demo_data import PEOPLE
from taskbell_devstack.status import WIDEST

KINDS = ("reminder", "overdue", "weekly")
EXAMPLES = 3


async def show(outcomes: DemoOutcomes, database_url: str, *, reports_go_to: str | None, taskbell: str) -> None:
    """Print mails by kind and person, the report, the archived tasks, and the changed status.

    Args:
        reports_go_to: the recipients of the report, if it is mailed.
        taskbell: the command line that runs `taskbell` here.
    """
    console = Console(width=WIDEST, highlight=False)
    connection = await connect(database_url)
    try:
        console.print(await _mails(connection, outcomes.mailings))
        await _report(console, connection, outcomes, reports_go_to)
        await _archived(console, connection, outcomes, taskbell)
        await _changed(console, connection, outcomes)
    finally:
        await connection.close()


async def _mails(connection: asyncpg.Connection, messages: list[str]) -> Table:
    rows = await connection.fetch(
        """
        SELECT d.user_id, d.kind, d.state FROM taskbell.delivery d JOIN taskbell.mailing m ON m.id = d.mailing_id
        WHERE m.message_id = ANY($1)
        """,
        messages,
    )
    ends = {(row["user_id"], row["kind"]): row["state"] for row in rows}
    sent = [kind for (_, kind), state in ends.items() if state == "sent"]
    table = Table("person", "language", "zone", *KINDS, title="Mails", title_justify="left", box=None, pad_edge=False)
    for person in PEOPLE:
        states = [ends.get((person.id, kind), "-") for kind in KINDS]
        name = person.name if person.is_active else f"{person.name} (inactive)"
        table.add_row(name, person.locale, person.timezone, *states)
    table.add_row("all", "", "", *(f"{sent.count(kind)} sent" for kind in KINDS), style="bold")
    return table


async def _report(
    console: Console, connection: asyncpg.Connection, outcomes: DemoOutcomes, reports_go_to: str | None
) -> None:
    result = outcomes.report.result or {}
    mailed = f"mailed to {reports_go_to} once a day" if reports_go_to else "mailed to nobody: set REPORT_RECIPIENTS"
    console.print(f"\n[bold]Report[/bold] of {result['date']}, {mailed}")
    console.print(f"  {result['tasks']} tasks, {result['overdue']} overdue")
    counts = await connection.fetchval(
        "SELECT body -> 'by_status' FROM taskbell.report WHERE to_char(date, 'YYYY-MM-DD') = $1", result["date"]
    )
    by_status = sorted(json.loads(counts).items(), key=lambda it: -it[1])
    console.print("  " + ", ".join(f"{number} {status}" for status, number in by_status))


async def _archived(console: Console, connection: asyncpg.Connection, outcomes: DemoOutcomes, taskbell: str) -> None:
    result: dict[str, Any] = dict(outcomes.cleanup.result or {})
    console.print(f"\n[bold]Archived[/bold] {result['tasks']} tasks completed more than 30 days ago, such as")
    rows = await connection.fetch(
        """
        SELECT task_id, row ->> 'title' AS title FROM taskbell.archived_task
        WHERE batch_id = $1 ORDER BY task_id LIMIT $2
        """,
        result["batch_id"],
        EXAMPLES,
    )
    for row in rows:
        console.print(f"  {row['task_id']}: {row['title']}", markup=False)
    console.print(f"  `{taskbell} archive restore {result['batch_id']}` brings them back")


async def _changed(console: Console, connection: asyncpg.Connection, outcomes: DemoOutcomes) -> None:
    result = outcomes.status_change.result or {}
    title = await connection.fetchval("SELECT title FROM public.tasks WHERE id = $1", result["task_id"])
    console.print(f"\n[bold]Changed[/bold] {result['old_status']} to {result['new_status']}: task {result['task_id']}")
    console.print(f"  {title}\n", markup=False)
