"""Plans mails again that were not sent, through taskbell.resend(), which operators may call."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import Row

from taskbell.database import Transaction
from taskbell.setup.resending import RESEND

MAILING = """
    SELECT id FROM taskbell.mailing
    WHERE id = CAST(:number AS bigint) OR (message_id = :name AND CAST(:number AS bigint) IS NULL)
"""

DELIVERY = """
    SELECT mailing_id, state, unknown_at IS NOT NULL AS uncertain FROM taskbell.delivery WHERE id = CAST(:id AS bigint)
"""

LARGEST = 2**63 - 1


class Planned(NamedTuple):
    """What was planned again."""

    mailing_id: int | None
    """The new mailing; None: nothing was planned."""
    rows: int


async def mailing_named(transaction: Transaction, name: str) -> int | None:
    """The mailing with that id, or that message_id if it is not a number."""
    number = int(name) if name.isascii() and name.isdigit() and int(name) <= LARGEST else None
    found = await transaction.value(MAILING, {"number": number, "name": name})
    return None if found is None else int(found)


async def delivery(transaction: Transaction, number: int) -> Row[Any] | None:
    """The row's mailing and state, and whether its outcome was ever unknown. None if no row has this id."""
    return await transaction.row(DELIVERY, {"id": number})


async def resend(
    transaction: Transaction, mailing: int, *, states: Sequence[str], deliveries: Sequence[int] | None = None
) -> Planned:
    """Plans those of the mailing's mails again that ended in these states.

    Args:
        deliveries: only these; None: all.
    """
    parameters = {
        "mailing": mailing,
        "deliveries": None if deliveries is None else list(deliveries),
        "states": list(states),
    }
    row = await transaction.row(RESEND, parameters)
    if row is None or not row.planned:
        return Planned(None, 0)
    return Planned(row.mailing_id, row.planned)
