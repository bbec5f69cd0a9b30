"""`taskbell mail`: shows a mail without sending it, and explains what happened to mails and mailings."""

import typer

from taskbell_notifier.cli.mailings import mailings
from taskbell_notifier.cli.preview import preview
from taskbell_notifier.cli.why import why

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Show a mail without sending it, or explain why somebody did or did not get one.",
)
app.command()(preview)
app.command()(why)
app.command()(mailings)
