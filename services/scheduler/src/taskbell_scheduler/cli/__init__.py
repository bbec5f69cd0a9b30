"""`taskbell schedules`: shows, pauses, resumes and runs schedules."""

import typer

from taskbell_scheduler.cli import control, inspect

commands = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Show what is scheduled, when it is next due and how it ended; pause, resume and run it.",
)
commands.command("list")(inspect.list_schedules)
commands.command("check")(inspect.check)
commands.command("next")(inspect.upcoming)
commands.command("status")(control.status)
commands.command("history")(control.history)
commands.command("pause")(control.pause)
commands.command("resume")(control.resume)
commands.command("run")(control.run)
