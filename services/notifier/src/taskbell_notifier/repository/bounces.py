"""Finds the mail that a bounce is about, and suppresses its address."""

import re
from typing import NamedTuple

from taskbell.database import Transaction
from taskbell_notifier.addresses import normal_form, stored_forms
from taskbell_notifier.repository.history import kinds_in_ledger, recipients_at

# `<KIND.ROWID.TOKEN@domain>`. Mails from before there were tokens have none, and then their Message-ID proves nothing.
_MESSAGE_ID = re.compile(r"<?[^<>\s@]+\.(?P<row>\d{1,19})\.(?P<token>[A-Za-z0-9_-]{16,64})@[^<>\s@]+>?")

LARGEST = 2**63 - 1

BY_MESSAGE_ID = """
    SELECT id, address FROM taskbell.delivery
    WHERE id = CAST(:row AS bigint) AND mail_message_id = :message_id AND address IS NOT NULL
"""

# By recipient, because the ledger has no index on addresses: one would cost each mail of each mailing more than a
# bounce now and then is worth.
BY_ADDRESS = """
    SELECT id, address FROM taskbell.delivery
    WHERE kind = ANY(CAST(:kinds AS text[])) AND recipient = ANY(CAST(:recipients AS text[]))
        AND state IN ('sent', 'unknown', 'failed') AND lower(btrim(address)) = ANY(CAST(:forms AS text[]))
        AND coalesce(ended_at, now()) > now() - interval '30 days' AND mail_message_id IS NOT NULL
    ORDER BY id DESC
    LIMIT 1
"""

SUPPRESS = """
    INSERT INTO taskbell.suppression (address, reason, delivery_id)
    VALUES (:address, :reason, :delivery)
    ON CONFLICT (address) DO NOTHING
    RETURNING address
"""


class Bounced(NamedTuple):
    """The mail that came back."""

    delivery_id: int
    address: str


def row_in(message_id: str) -> int | None:
    """The row that a Message-ID names, if it also has the part that nobody can guess."""
    found = _MESSAGE_ID.fullmatch(message_id.strip())
    if found is None or int(found["row"]) > LARGEST:
        return None
    return int(found["row"])


async def by_message_id(transaction: Transaction, message_id: str) -> Bounced | None:
    """The mail with exactly this Message-ID, which proves that whoever reports it has seen the mail."""
    row = row_in(message_id)
    if row is None:
        return None
    written = f"<{message_id.strip().removeprefix('<').removesuffix('>')}>"
    found = await transaction.row(BY_MESSAGE_ID, {"row": row, "message_id": written})
    return None if found is None else Bounced(found.id, found.address)


async def by_address(transaction: Transaction, app: str, address: str) -> Bounced | None:
    """The last mail to this address, handed over in the last 30 days, of somebody who still has it."""
    parameters = {
        "kinds": list(await kinds_in_ledger(transaction)),
        "recipients": list(await recipients_at(transaction, app, address)),
        "forms": stored_forms(address),
    }
    found = await transaction.row(BY_ADDRESS, parameters)
    return None if found is None else Bounced(found.id, found.address)


async def suppress(transaction: Transaction, bounced: Bounced, reason: str) -> bool:
    """Suppresses the address; False: it was suppressed already."""
    parameters = {"address": normal_form(bounced.address), "reason": reason, "delivery": bounced.delivery_id}
    return await transaction.value(SUPPRESS, parameters) is not None
