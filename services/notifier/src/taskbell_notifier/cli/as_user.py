"""The mail that a user would get now; its content is read as the notifier reads it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast
from zoneinfo import ZoneInfo

from sqlalchemy.exc import DBAPIError

from taskbell.catalogue import row_of
from taskbell.cli.bodies import read_body
from taskbell.contracts import MailingDue, UserEvent
from taskbell.database import Database
from taskbell.errors import Mistake, Never, TaskbellError
from taskbell.kinds import Kind, Recipient, Statement
from taskbell.zones import resolve_zone
from taskbell_notifier.planning.mailings import props_of
from taskbell_notifier.repository.contents import contents
from taskbell_notifier.repository.history import person
from taskbell_notifier.repository.statements import refusal


@dataclass(frozen=True, slots=True)
class Asked:
    """A mail that is only to be shown, in place of a row of the ledger."""

    kind: str
    user_id: int
    at: datetime
    props: Mapping[str, Any]
    id: int = 0


def asked(kind: Kind, user: int, at: datetime, event: str | None) -> Asked:
    """The mail of that kind to that user.

    Args:
        event: JSON of its event's body. An event that names its user gets user_id, and a key if it has none.

    Raises:
        Mistake: mails of that kind do not go to users, or the event does not validate.
    """
    if not kind.is_planned and not kind.is_instant:
        msg = f"a {kind.name} mail does not go to a user: leave out --user"
        raise Mistake(msg)
    known = {"user_id": user, "key": "preview"} if kind.is_instant else {}
    try:
        body = read_body(row_of(kind.event), _merged(event or "{}", known))
        props = props_of(cast(MailingDue | UserEvent, body))
    except (Mistake, Never) as error:
        msg = f"{error} (--event gives the body as JSON)"
        raise Mistake(msg) from None
    return Asked(kind.name, user, at, props or {})


async def content_for(
    database: Database, kinds: Mapping[str, Kind], wanted: Asked, zone: ZoneInfo
) -> tuple[Recipient, object]:
    """The recipient and the content of the mail; `zone` is used if the user's is not valid.

    Raises:
        TaskbellError: there is no such user, the mail would be empty, or PostgreSQL refuses a package's statement.
        StatementError: a package's statement does not select what it has to, or does what it must not.
    """
    async with database.transaction() as transaction:
        row = await person(transaction, database.app, wanted.user_id)
        if row is None:
            msg = f"there is no user {wanted.user_id}"
            raise TaskbellError(msg)
        try:
            found = await contents(transaction, database.app, kinds, [wanted])
        except DBAPIError as error:
            kind = kinds[wanted.kind]
            if not isinstance(kind.what, Statement):
                raise
            msg = f"PostgreSQL: {refusal(kind, error)}"
            raise TaskbellError(msg) from error
    if wanted.id not in found:
        msg = f"user {wanted.user_id} would get no {wanted.kind} mail now, because it would be empty"
        raise TaskbellError(msg)
    recipient_zone = resolve_zone(row.timezone) or zone
    return Recipient(wanted.user_id, row.name or "", row.email or "", recipient_zone, row.locale), found[wanted.id]


def _merged(event: str, known: Mapping[str, Any]) -> str:
    try:
        said = json.loads(event)
    except (ValueError, RecursionError):
        return event  # the contract says what is wrong with it
    return json.dumps(dict(known) | said) if isinstance(said, dict) else event
