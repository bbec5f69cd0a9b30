"""`taskbell deliveries`: plans mails again that were not sent."""

import asyncio
from typing import Annotated

import typer

from taskbell.cli.access import asked
from taskbell.cli.console import print_json
from taskbell.database import Transaction
from taskbell.errors import Mistake, TaskbellError
from taskbell.setup.resending import STATES
from taskbell.spelling import did_you_mean
from taskbell_notifier.cli.named import MAX_ID
from taskbell_notifier.repository import resending

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Plan mails again that were not sent.")


@app.callback()
def deliveries() -> None:
    """Plan mails again that were not sent."""


@app.command()
def resend(
    delivery: Annotated[
        int | None,
        typer.Argument(metavar="[ID]", min=1, max=MAX_ID, help="One mail, by its id; `taskbell mail why` shows it."),
    ] = None,
    mailing: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Mails of this mailing, by its id or message_id (`taskbell mail mailings`)."),
    ] = None,
    state: Annotated[
        str | None, typer.Option(help=f"With --mailing: mails that ended so, separated by commas: {', '.join(STATES)}.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Plan mails again that ended failed, expired or suppressed, and nobody else's.

    They expire as long after now as they first did after their time. A mail that was sent, that may have been sent, or
    that has been planned again already, is left out: used twice, the command mails nobody twice.
    """
    if (delivery is None) == (mailing is None):
        msg = "give either the ID of one mail or --mailing"
        raise Mistake(msg)
    if delivery is not None:
        if state is not None:
            msg = "--state belongs to --mailing: one mail is named by its ID alone"
            raise Mistake(msg)
        planned = asyncio.run(asked(lambda transaction: _one(transaction, delivery)))
    else:
        if state is None:
            msg = f"say which mails of the mailing: --state {','.join(STATES[:2])}"
            raise Mistake(msg)
        states = [_checked(it) for it in state.split(",")]
        planned = asyncio.run(asked(lambda transaction: _several(transaction, str(mailing), states)))
    if as_json:
        print_json({"mailing_id": planned.mailing_id, "planned": planned.rows})
    elif planned.rows:
        mails = "1 mail is" if planned.rows == 1 else f"{planned.rows} mails are"
        print(f"{mails} planned again, as mailing {planned.mailing_id}.")
    else:
        print("No mail is planned again: none ended so, or all have been planned again already.")


def _checked(state: str) -> str:
    name = state.strip()
    if name not in STATES:
        hint = did_you_mean(name, STATES) or "."
        msg = f"mails that ended {name!r} are not planned again{hint} --state takes {', '.join(STATES)}"
        raise Mistake(msg)
    return name


async def _several(transaction: Transaction, mailing: str, states: list[str]) -> resending.Planned:
    number = await resending.mailing_named(transaction, mailing)
    if number is None:
        msg = f"there is no mailing {mailing}: look for its id in `taskbell mail mailings`"
        raise TaskbellError(msg)
    return await resending.resend(transaction, number, states=states)


async def _one(transaction: Transaction, delivery: int) -> resending.Planned:
    found = await resending.delivery(transaction, delivery)
    if found is None:
        msg = f"there is no mail {delivery}: look for its id in `taskbell mail why`"
        raise TaskbellError(msg)
    if found.uncertain:
        msg = f"mail {delivery} may have been sent ({found.state}): it is not sent again"
        raise TaskbellError(msg)
    if found.state not in STATES:
        msg = f"mail {delivery} is {found.state}: only mails that ended {', '.join(STATES)} are planned again"
        raise TaskbellError(msg)
    return await resending.resend(transaction, found.mailing_id, states=[found.state], deliveries=[delivery])
