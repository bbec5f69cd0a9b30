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
from taskbell.errors import Mistake, TaskbellError
from taskbell.kinds import Kind, Recipient
from taskbell.settings import load
from taskbell.zones import resolve_zone, zone_named
from taskbell_notifier.cli.named import MAX_ID, kind_named
from taskbell_notifier.kinds.table import installed_kinds
from taskbell_notifier.mail.render import Rendered, Renderer
from taskbell_notifier.repository.contents import of_users
from taskbell_notifier.repository.history import person
from taskbell_notifier.settings import Preview

A_KIND = "A kind of mail: reminder, overdue, weekly, report, test, or one of an installed package."


def preview(
    kind: Annotated[str, typer.Argument(help=A_KIND)],
    user: Annotated[
        int | None,
        typer.Option(min=1, max=MAX_ID, help="Show the mail that this user would get now; without it, sample tasks."),
    ] = None,
    html: Annotated[bool, typer.Option("--html", help="Print the HTML part.")] = False,
    show: Annotated[bool, typer.Option("--open", help="Show the HTML part in a browser.")] = False,
) -> None:
    """Show a mail without sending it."""
    rendered = _rendered(kind_named(kind), user)
    if show:
        page = Path(tempfile.mkdtemp(prefix="taskbell-mail-")) / f"{kind}.html"
        page.write_text(rendered.html, encoding="utf-8")
        webbrowser.open(page.as_uri())
        print(page)
    elif html:
        print(rendered.html)
    else:
        print(f"Subject: {rendered.subject}\n\n{rendered.text}")


def _rendered(kind: Kind, user: int | None) -> Rendered:
    now = datetime.now(UTC)
    settings = load(Preview)
    if user is None:
        recipient, content = Recipient(None, "Ada", "ada@example.com", zone_named("UTC")), kind.sample(now)
    elif kind.is_planned:
        recipient, content = asyncio.run(_of_user(kind, user, now, settings.zone))
    elif kind.is_instant:
        msg = f"the content of a {kind.name} mail comes with its event: leave out --user to see a sample"
        raise Mistake(msg)
    else:
        msg = f"a {kind.name} mail does not go to a user: leave out --user"
        raise Mistake(msg)
    renderer = Renderer(installed_kinds(), settings.links, settings.product_name)
    return renderer.render(kind, recipient, content, at=now, now=now)


async def _of_user(kind: Kind, user: int, at: datetime, zone: ZoneInfo) -> tuple[Recipient, object]:
    """The recipient and the content of the mail that a user would get; `zone` is used if theirs is not valid."""
    async with database() as connected, connected.transaction() as transaction:
        row = await person(transaction, connected.app, user)
        if row is None:
            msg = f"there is no user {user}"
            raise TaskbellError(msg)
        content = (await of_users(transaction, connected.app, kind, at, [user])).get(user)
    if content is None:
        msg = f"user {user} would get no {kind.name} mail now, because it would be empty"
        raise TaskbellError(msg)
    recipient_zone = resolve_zone(row.timezone) or zone
    return Recipient(user, row.name or "", row.email or "", recipient_zone, row.locale), content
