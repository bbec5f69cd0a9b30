"""`taskbell setup`."""

import asyncio
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from taskbell.errors import Mistake
from taskbell.spelling import did_you_mean

if TYPE_CHECKING:
    from taskbell.extensions import Installed
    from taskbell.setup.packages import Choice
    from taskbell.setup.settings import SetupSettings

app = typer.Typer(rich_markup_mode=None)


@app.command("setup")
def set_everything_up(
    with_app_tables: Annotated[
        bool, typer.Option("--with-app-tables", help="Also make those of users, projects and tasks that are missing.")
    ] = False,
    grant: Annotated[
        list[str] | None,
        typer.Option(metavar="PACKAGE", help="Grant that package the rights that it asks for. May be repeated."),
    ] = None,
    wait: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="How long to wait for PostgreSQL, and for RabbitMQ.")
    ] = 60,
) -> None:
    """Make everything that must exist before a service runs.

    That is the schema taskbell in PostgreSQL, exchanges and queues in RabbitMQ, and, if their passwords are set, a role
    and a user for each service, the web app and the operator. Run it as an administrator, before the services, at every
    installation and upgrade. It is safe to run it again, and to run several at once.

    Packages that extend Taskbell get the rights that they ask for only if they are named by --grant or SETUP_GRANT; on
    a terminal you are asked.
    """
    from taskbell.extensions import installed
    from taskbell.settings import load
    from taskbell.setup.run import set_up
    from taskbell.setup.settings import settings_with

    settings = load(settings_with(installed()))
    report = asyncio.run(
        set_up(
            settings,
            app_tables=with_app_tables,
            wait=wait,
            say=lambda sentence: print(sentence, file=sys.stderr, flush=True),
            choice=_chosen(settings, grant or []),
        )
    )
    for sentence in report.done:
        print(sentence)
    for sentence in report.left_out:
        print(f"left out: {sentence}")
    for sentence in report.left_over:
        print(f"left over: {sentence}")
    for sentence in report.advice:
        print(f"advice: {sentence}")


def _chosen(settings: "SetupSettings", named: Sequence[str]) -> "Choice":
    """Chooses the packages that get what they ask for. Raises Mistake if a named package is not installed."""
    from taskbell.extensions import installed
    from taskbell.setup.packages import choose, unknown

    # An unknown name on the command line is a mistake; SETUP_GRANT may still name a package that was removed.
    for name in unknown(installed(), named):
        packages = [package.package for package in installed()]
        hint = did_you_mean(name, packages) or "."
        msg = f"package {name!r} is not installed, or extends nothing{hint} Installed: {', '.join(packages) or 'none'}"
        raise Mistake(msg)
    on_a_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    every = [*settings.packages_to_grant, *named]
    return choose(installed(), every, settings.app_schema, _ask if on_a_terminal else None)


def _ask(package: "Installed", wishes: Sequence[str]) -> bool:
    print(f"Package {package.package} {package.version} asks that")
    for wish in wishes:
        print(f"  {wish}")
    return typer.confirm("Grant it?", default=False)
