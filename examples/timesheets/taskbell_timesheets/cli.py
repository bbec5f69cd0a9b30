"""The command group `taskbell timesheets`."""

from importlib.resources import files

import typer

app = typer.Typer(help="The timesheets service.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """The timesheets service."""


@app.command()
def tables() -> None:
    """Print the SQL that makes the service's tables."""
    typer.echo((files("taskbell_timesheets") / "tables.sql").read_text(encoding="utf-8"), nl=False)
