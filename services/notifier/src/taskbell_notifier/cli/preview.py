"""`taskbell mail preview`: shows a mail without sending it."""

import asyncio
import tempfile
import webbrowser
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo

import typer

from taskbell.cli.access import database
from taskbell.errors import Mistake
from taskbell.kinds import Kind, Recipient
from taskbell.settings import load
from taskbell.zones import zone_named
from taskbell_notifier.cli.as_user import Asked, asked, content_for
from taskbell_notifier.cli.named import MAX_ID, kind_named
from taskbell_notifier.kinds.table import installed_kinds
from taskbell_notifier.mail.render import Rendered, Renderer
from taskbell_notifier.settings import Preview

A_KIND = "A kind of mail: reminder, overdue, weekly, report, test, or one of an installed package."


def preview(
    kind: Annotated[str, typer.Argument(help=A_KIND)],
    user: Annotated[
        int | None,
        typer.Option(min=1, max=MAX_ID, help="Show the mail that this user would get now; without it, sample tasks."),
    ] = None,
    event: Annotated[
        str | None,
        typer.Option(metavar="JSON", help="With --user: the event's body, such as the task that it names."),
    ] = None,
    html: Annotated[bool, typer.Option("--html", help="Print the HTML part.")] = False,
    show: Annotated[bool, typer.Option("--open", help="Show the HTML part in a browser.")] = False,
) -> None:
    """Show a mail without sending it."""
    rendered = _rendered(kind_named(kind), user, event)
    if show:
        page = Path(tempfile.mkdtemp(prefix="taskbell-mail-")) / f"{kind}.html"
        page.write_text(rendered.html, encoding="utf-8")
        webbrowser.open(page.as_uri())
        print(page)
    elif html:
        print(rendered.html)
    else:
        print(f"Subject: {rendered.subject}\n\n{rendered.text}")


def _rendered(kind: Kind, user: int | None, event: str | None) -> Rendered:
    now = datetime.now(UTC)
    settings = load(Preview)
    if user is not None:
        recipient, content = asyncio.run(_of_user(asked(kind, user, now, event), settings.zone))
    elif event is not None:
        msg = "--event needs --user: a sample is the same for every event"
        raise Mistake(msg)
    else:
        recipient, content = Recipient(None, "Ada", "ada@example.com", zone_named("UTC")), kind.sample(now)
    renderer = Renderer(installed_kinds(), settings.links, settings.product_name)
    return renderer.render(kind, recipient, content, at=now, now=now)


async def _of_user(wanted: Asked, zone: ZoneInfo) -> tuple[Recipient, object]:
    async with database() as connected:
        return await content_for(connected, installed_kinds(), wanted, zone)
