"""Suppressed addresses, as an operator sees and lifts them."""

from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy import RowMapping

from taskbell.database import Transaction
from taskbell_notifier.addresses import stored_forms

LISTED = """
    SELECT address, reason, delivery_id, created_at FROM taskbell.suppression
    WHERE (CAST(:address AS text) IS NULL OR strpos(address, lower(CAST(:address AS text))) > 0
            OR address = ANY(CAST(:forms AS text[])))
        AND (CAST(:reason AS text) IS NULL OR strpos(lower(reason), lower(CAST(:reason AS text))) > 0)
    ORDER BY created_at DESC, address
    LIMIT :limit
"""

LIFT = """
    DELETE FROM taskbell.suppression
    WHERE address = ANY(CAST(:addresses AS text[]))
        OR (created_at >= CAST(:since AS timestamptz)
            AND (CAST(:reason AS text) IS NULL OR strpos(lower(reason), lower(CAST(:reason AS text))) > 0))
    RETURNING address
"""


def moment(text: str) -> datetime:
    """An ISO time, in UTC if it has no offset. Raises ValueError if it is none."""
    found = datetime.fromisoformat(text)
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


async def listed(
    transaction: Transaction, *, address: str | None, reason: str | None, limit: int
) -> Sequence[RowMapping]:
    """The newest suppressions whose address and reason contain these."""
    return await transaction.mappings(
        LISTED, {"address": address, "forms": stored_forms(address or ""), "reason": reason, "limit": limit}
    )


async def lift(
    transaction: Transaction, addresses: Sequence[str], *, since: datetime | None, reason: str | None
) -> list[str]:
    """Lifts these addresses, or all that were suppressed since then for such a reason; returns which were lifted."""
    parameters = {
        "addresses": [form for it in addresses for form in stored_forms(it)],
        "since": since,
        "reason": reason,
    }
    return sorted(row.address for row in await transaction.rows(LIFT, parameters))
