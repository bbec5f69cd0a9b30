"""`taskbell setup`."""

import asyncio
import sys
from typing import Annotated

import typer

app = typer.Typer(rich_markup_mode=None)


@app.command("setup")
def set_everything_up(
    with_app_tables: Annotated[
        bool, typer.Option("--with-app-tables", help="Also make those of users, projects and tasks that are missing.")
    ] = False,
    wait: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="How long to wait for PostgreSQL, and for RabbitMQ.")
    ] = 60,
) -> None:
    """Make everything that must exist before a service runs.

    That is the schema taskbell in PostgreSQL, exchanges and queues in RabbitMQ, and, if their passwords are set, a role
    and a user for each service, the web app and the operator. Run it as an administrator, before the services, at every
    installation and upgrade. It is safe to run it again, and to run several at once.
    """
    from taskbell.settings import load
    from taskbell.setup.run import SetupSettings, set_up

    report = asyncio.run(
        set_up(
            load(SetupSettings),
            app_tables=with_app_tables,
            wait=wait,
            say=lambda sentence: print(sentence, file=sys.stderr, flush=True),
        )
    )
    for sentence in report.done:
        print(sentence)
    for sentence in report.left_out:
        print(f"left out: {sentence}")
