"""The command `notifier.report_bounce`: a mail that the server had taken came back, or its recipient complained.

Whoever may publish commands may send it, so it is believed only about mails that were ours: the Message-ID has a part
that nobody can guess, or the ledger has a mail to that address of the last 30 days.
"""

from collections.abc import Sequence
from functools import partial

from taskbell.commands import CommandLog, Outcome
from taskbell.contracts import ReportBounce
from taskbell.database import Transaction
from taskbell.messaging.consuming.delivery import Received
from taskbell_notifier.addresses import normal_form
from taskbell_notifier.metrics import NotifierMetrics
from taskbell_notifier.repository import bounces
from taskbell_notifier.smtp.replies import clean

NOTHING_NAMED = "give message_id, the mail's Message-ID, or address"
UNKNOWN_MAIL = "no mail of ours has this Message-ID"
UNKNOWN_ADDRESS = "no mail went to this address in the last 30 days, or nobody has it any more"
OTHER_ADDRESS = "the mail with this Message-ID went to another address"


class Bounces:
    """The use case of `notifier.report_bounce`.

    Args:
        app: the quoted schema of the web app's tables.
    """

    def __init__(self, commands: CommandLog, app: str, metrics: NotifierMetrics) -> None:
        self._commands = commands
        self._app = app
        self._metrics = metrics

    async def report(self, commands: Sequence[Received[ReportBounce]]) -> None:
        """Suppresses the addresses of hard bounces and complaints, counts all, and answers each command."""
        await self._commands.run(commands, self._apply)

    async def _apply(self, transaction: Transaction, commands: Sequence[Received[ReportBounce]]) -> Sequence[Outcome]:
        return [await self._one(transaction, command.body) for command in commands]

    async def _one(self, transaction: Transaction, bounce: ReportBounce) -> Outcome:
        found = await self._found(transaction, bounce)
        if isinstance(found, Outcome):
            return found
        transaction.after_commit(partial(self._count, bounce.type))
        if bounce.type == "soft":
            return Outcome.done(delivery_id=found.delivery_id, suppressed=False)
        said = f": {clean(bounce.reason)}" if bounce.reason else ""
        if await bounces.suppress(transaction, found, f"reported as {bounce.type}{said}"):
            return Outcome.done(delivery_id=found.delivery_id, suppressed=True)
        return Outcome.unchanged(delivery_id=found.delivery_id, suppressed=True)

    async def _found(self, transaction: Transaction, bounce: ReportBounce) -> bounces.Bounced | Outcome:
        address = (bounce.address or "").strip().removeprefix("<").removesuffix(">")
        if bounce.message_id and bounce.message_id.strip():
            found = await bounces.by_message_id(transaction, bounce.message_id)
            if found is not None:
                same = not address or normal_form(address) == normal_form(found.address)
                return found if same else Outcome.rejected(OTHER_ADDRESS)
            if not address:
                return Outcome.rejected(UNKNOWN_MAIL)
        if not address:
            return Outcome.rejected(NOTHING_NAMED)
        return await bounces.by_address(transaction, self._app, address) or Outcome.rejected(UNKNOWN_ADDRESS)

    def _count(self, kind: str) -> None:
        self._metrics.bounces.labels(kind).inc()
