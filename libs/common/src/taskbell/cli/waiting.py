"""Why a command has no outcome when the time to wait for it is over."""

from taskbell.cli.access import database
from taskbell.errors import OutcomeTimeout, TaskbellError

_REASON = "SELECT reason FROM taskbell.awaited_command WHERE message_id = :id ORDER BY received_at LIMIT 1"


async def still_waiting(error: OutcomeTimeout) -> OutcomeTimeout:
    """The same error, with what the command waits for as far as the database tells; it may not be known here."""
    try:
        async with database() as connected, connected.statement() as transaction:
            reason = await transaction.value(_REASON, {"id": error.message_id})
    except TaskbellError:  # no DATABASE_URL, or a user who may not read it: the broker alone is needed to publish
        reason = None
    told = OutcomeTimeout(f"waiting, because {reason or 'no service has answered yet'}. {error}")
    told.message_id = error.message_id
    return told
