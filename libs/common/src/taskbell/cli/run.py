"""`taskbell run`: runs services in this process."""

from typing import Annotated

import typer

from taskbell.cli.packages import SERVICES, offers
from taskbell.errors import Mistake, SettingsError
from taskbell.signals import end_at_once
from taskbell.spelling import did_you_mean

app = typer.Typer(rich_markup_mode=None)

ALL = "all"


@app.command("run")
def run_services(
    names: Annotated[
        list[str], typer.Argument(metavar="SERVICE...", help="scheduler, notifier, maintenance, or all of them.")
    ],
) -> None:
    """Run services until SIGTERM or Ctrl-C.

    Several services share one process, which suits development and small installations.

    Settings come from the environment and .env. Exit code 0: stopped by a signal. 1: a part ended by itself or failed.
    2: a setting is missing or wrong.
    """
    # Loading the services takes most of a second.
    end_at_once()
    installed = offers(SERVICES)
    if names == [ALL]:
        names = list(installed)
    for name in names:
        if name not in installed:
            hint = did_you_mean(name, [*installed, ALL]) or "."
            msg = f"service {name!r} is not installed{hint} Installed: {', '.join(installed) or 'none'}"
            raise Mistake(msg)
    chosen = [installed[name].load() for name in dict.fromkeys(names)]
    if not chosen:
        msg = "no service is installed; install taskbell-scheduler, taskbell-notifier or taskbell-maintenance"
        raise Mistake(msg)
    from taskbell.service import run

    try:
        status = run(chosen)
    except SettingsError as error:
        msg = f"{', '.join(names)} cannot start:\n{error}"
        raise SettingsError(msg) from error
    raise typer.Exit(status)
