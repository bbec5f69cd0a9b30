"""The command that sends a test mail.

`done` means that the mail is planned: its row is in the ledger and its message in the outbox, both committed with the
outcome, which names the row (`delivery_id`). The answer does not wait for the SMTP server. The ledger has the mail's
outcome (`taskbell mail why --address`), and `mail.failed` is published if it fails.
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import timedelta

from taskbell.commands import CommandLog, Outcome
from taskbell.contracts import SendTestMail
from taskbell.database import Transaction
from taskbell.errors import AnothersId
from taskbell.messaging.consuming.delivery import Received
from taskbell.outbox import Outbox
from taskbell_notifier.addresses import read_address
from taskbell_notifier.kinds import trial
from taskbell_notifier.planning.inserting import insert_mailing, insert_recipients

ALREADY = "a test mail to this address was asked for by the same message"


class TestMails:
    """The use case of `notifier.send_test_mail`: the row's period is the command's message_id."""

    # Its name begins with Test, but pytest must not collect it.
    __test__ = False

    def __init__(
        self, commands: CommandLog, outbox: Outbox, *, expiry: Mapping[str, timedelta], completion: asyncio.Event
    ) -> None:
        self._commands = commands
        self._outbox = outbox
        self._expiry = expiry
        self._completion = completion

    async def send(self, commands: Sequence[Received[SendTestMail]]) -> None:
        """Plans each test mail once, and answers each command."""
        await self._commands.run(commands, self._apply)

    async def _apply(self, transaction: Transaction, commands: Sequence[Received[SendTestMail]]) -> Sequence[Outcome]:
        transaction.after_commit(self._completion.set)
        return [await self._plan(transaction, command) for command in commands]

    async def _plan(self, transaction: Transaction, command: Received[SendTestMail]) -> Outcome:
        kind, address = trial.KIND, read_address(command.body.to)
        if address is None:
            return Outcome.rejected("no valid address")
        try:
            mailing = await insert_mailing(transaction, kind, command, self._expiry, direct=True)
        except AnothersId as error:
            return Outcome.rejected(str(error))
        if mailing is None:
            return Outcome.unchanged(reason=ALREADY)
        (delivery_id,) = await insert_recipients(
            transaction,
            self._outbox,
            kind,
            mailing,
            self._expiry,
            addresses=[address.addr_spec],
            period=command.message_id,
        )
        return Outcome.done(mailing_id=mailing.id, delivery_id=delivery_id)
