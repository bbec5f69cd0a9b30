"""The command that sends a test mail.

`done` means that the mail server has taken the mail, `rejected` that the mail ended unsent, with the server's words.
The handler plans the mail and stores who asked, in one transaction; the outcome is stored and sent once the mail has
ended, by any notifier. So no handler and no message waits meanwhile, and a killed notifier loses nothing.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial

from taskbell.commands import CommandLog, Outcome
from taskbell.concurrency import first_of
from taskbell.contracts import SendTestMail
from taskbell.database import Database, Transaction
from taskbell.errors import AnothersId, Overtaken
from taskbell.gate import Gate
from taskbell.identity import ANOTHER
from taskbell.messaging.consuming.delivery import Received
from taskbell.outbox import Outbox
from taskbell_notifier.addresses import read_address
from taskbell_notifier.kinds import trial
from taskbell_notifier.lifecycle import DeliveryState
from taskbell_notifier.planning.inserting import body_digest_of, insert_mailing, insert_recipients
from taskbell_notifier.repository import awaited, mailings
from taskbell_notifier.repository.awaited import Awaited

POLL = 5.0
"""Seconds between searches for commands that another process took up."""

WAITING_POLL = 0.5
"""Seconds between searches while a command waits."""

LIMIT = 100
"""Commands in one transaction."""


class TestMails:
    """The use case of `notifier.send_test_mail`: the row's period is the command's message_id.

    Args:
        wanted: set once a command waits for its mail.
    """

    # Its name begins with Test, but pytest must not collect it.
    __test__ = False

    def __init__(
        self,
        database: Database,
        commands: CommandLog,
        outbox: Outbox,
        *,
        expiry: Mapping[str, timedelta],
        completion: asyncio.Event,
        wanted: asyncio.Event,
    ) -> None:
        self._database = database
        self._commands = commands
        self._outbox = outbox
        self._expiry = expiry
        self._completion = completion
        self._wanted = wanted

    async def send(self, commands: Sequence[Received[SendTestMail]]) -> None:
        """Plans each test mail once; answers commands that are refused, and those whose mail has ended before."""
        async with self._database.transaction() as transaction:
            transaction.after_commit(self._completion.set)
            transaction.after_commit(self._wanted.set)
            outcomes = [await self._begin(transaction, command) for command in commands]
        for command, outcome in zip(commands, outcomes, strict=True):
            if outcome is not None:
                self._commands.reply(command.envelope, outcome)

    async def _begin(self, transaction: Transaction, command: Received[SendTestMail]) -> Outcome | None:
        """The outcome of a command that has ended; None: its mail has not."""
        known = await self._commands.begin(transaction, command)
        if known is not None:
            return known
        try:
            planned = await self._plan(transaction, command)
        except AnothersId:
            return await self._commands.reject_another(transaction, command)
        if isinstance(planned, Outcome):
            return await self._commands.end(transaction, command, planned)
        await awaited.add(transaction, command, planned)
        return None

    async def _plan(self, transaction: Transaction, command: Received[SendTestMail]) -> int | Outcome:
        """The id of the mail's row, or why there is none.

        Raises:
            AnothersId: another message has started a mailing under this message_id.
        """
        kind, address = trial.KIND, read_address(command.body.to)
        if address is None:
            return Outcome.rejected("no valid address")
        mailing = await insert_mailing(transaction, kind, command, self._expiry, direct=True)
        if mailing is None:
            return await self._planned_before(transaction, command)
        (delivery_id,) = await insert_recipients(
            transaction,
            self._outbox,
            kind,
            mailing,
            self._expiry,
            addresses=[address.addr_spec],
            period=command.message_id,
        )
        return delivery_id

    async def _planned_before(self, transaction: Transaction, command: Received[SendTestMail]) -> int:
        """The row of a message that is delivered again, while its mail has not ended."""
        kind, envelope = trial.KIND.name, command.envelope
        same = None
        if envelope.anonymous and envelope.again:
            same = await mailings.same_within_an_hour(transaction, kind, body_digest_of(command.body))
        delivery_id = await awaited.mail_of(transaction, kind, command.message_id, same)
        if delivery_id is None:
            raise AnothersId(ANOTHER)
        return delivery_id


class TestMailOutcomes:
    """Gives each command the outcome of its mail once that has ended, and says until then what the mail waits for.

    Args:
        paused: returns why this process sends nothing now; None: it sends.
    """

    __test__ = False

    def __init__(
        self, database: Database, commands: CommandLog, *, gate: Gate, paused: Callable[[], str | None]
    ) -> None:
        self.name = "test mails"
        self.wanted = asyncio.Event()
        """Set it when a command begins to wait."""
        self._database = database
        self._commands = commands
        self._gate = gate
        self._paused = paused

    async def run(self, stop: asyncio.Event) -> None:
        """Looks for mails that have ended, until `stop`."""
        await self._gate.rounds(self.name, partial(self._round, stop), stop, wake=self.wanted)

    async def _round(self, stop: asyncio.Event) -> float:
        try:
            waiting = await self.answer()
        except Overtaken:  # another notifier answered the same command to somebody else
            return 0.0
        if not waiting:
            return POLL
        await first_of(stop.wait(), timeout=WAITING_POLL)
        return 0.0

    async def answer(self) -> int:
        """Answers commands whose mails have ended; returns how many commands waited, LIMIT at most.

        Raises:
            DatabaseUnavailable: nothing took effect.
            Overtaken: another process gave one of them its outcome first; nothing took effect.
        """
        async with self._database.transaction() as transaction:
            found = await awaited.open_commands(transaction, LIMIT)
            waiting = [(it.command.message_id, self._waits_for(it)) for it in found if not it.ended]
            told = {it.command.message_id: it.told for it in found}
            changed = [(message_id, reason) for message_id, reason in waiting if told[message_id] != reason]
            if changed:
                await awaited.tell(transaction, changed)
            ended = [it for it in found if it.ended]
            outcomes = [await self._commands.end(transaction, it.command, _outcome(it)) for it in ended]
            await awaited.remove(transaction, [it.command for it in ended])
        for it, outcome in zip(ended, outcomes, strict=True):
            self._commands.reply(it.command.envelope, outcome)
        return len(found)

    def _waits_for(self, it: Awaited) -> str:
        """What the mail waits for, in words for whoever asked."""
        paused = self._paused()
        if it.state is DeliveryState.SENDING:
            return "the mail is being handed to the mail server"
        if paused is not None:
            return f"sending is paused: {paused}"
        if it.reason:
            return f"the mail is tried again: {it.reason}"
        return "the mail waits for its turn"


def _outcome(it: Awaited) -> Outcome:
    if it.delivery_id is None:
        return Outcome.rejected("the ledger does not know the mail any more")
    if it.state is DeliveryState.SENT:
        return Outcome.done(mailing_id=it.mailing_id, delivery_id=it.delivery_id)
    assert it.state is not None
    words = f"the mail was not sent ({it.state.value}): {it.reason}"
    return Outcome.rejected(words, mailing_id=it.mailing_id, delivery_id=it.delivery_id)
