"""`taskbell version`."""

import platform
from importlib.metadata import entry_points, version
from typing import Annotated

import typer

from taskbell.cli.console import print_json
from taskbell.cli.packages import COMMANDS, SERVICES

app = typer.Typer(rich_markup_mode=None)


@app.command("version")
def show(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print the versions of Taskbell, its installed packages and those that extend it."""
    from taskbell.extensions import GROUP

    versions = {"taskbell": version("taskbell")}
    offered = [entry.dist for group in (SERVICES, COMMANDS, GROUP) for entry in entry_points(group=group)]
    versions |= sorted({dist.name: dist.version for dist in offered if dist}.items())
    versions["python"] = platform.python_version()
    if as_json:
        print_json(versions)
        return
    for name, number in versions.items():
        print(name, number)
