"""Notifiers that a test moves step by step: every SMTP conversation waits for the test to say how it goes on.

The notifiers' planner, ledger, sender and sweeper are the real ones, on a real database; only SMTP is simulated.
"""

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Sequence
from enum import Enum, auto
from functools import partial
from typing import Any, cast
from uuid import UUID

from taskbell.database import Database
from taskbell_notifier.lifecycle import Change, Claimed
from taskbell_notifier.mail.render import Renderer
from taskbell_notifier.repository import deliveries
from taskbell_notifier.smtp.envelope import OutgoingMail
from taskbell_notifier.smtp.replies import Loss, Reply, Stage, Submission, Verdict, classify, lost
from taskbell_notifier.smtp.transaction import BeforeData
from tests.integration.notifier.ledger.notifier_parts import LEASE, NotifierParts
from tests.support.scripted_smtp import ScriptedSmtp

_ROW = re.compile(rb"^Message-ID: <overdue\.(\d+)\.[0-9a-f]{32}@example\.org>\r?$", re.MULTILINE | re.IGNORECASE)
LIMIT = 20.0  # seconds for something to happen that only a failing test waits for so long

Word = Reply | Loss
Key = tuple[int, UUID | None]
"""Row and claim."""

GO_ON = Reply(250, "go on")


class At(Enum):
    """Where a conversation waits."""

    ENVELOPE = auto()
    """The recipient is named; no byte of the message was sent."""
    MARKED = auto()
    """The marker is committed; no byte of the message was sent."""
    DATA = auto()
    """The message is being sent, or was sent."""


class Conversation:
    """One submission under way; `taken` counts what the server accepted, by the ledger's row."""

    def __init__(
        self, taken: Counter[int], claim: UUID | None, envelope: OutgoingMail, moved: Callable[[], None]
    ) -> None:
        found = _ROW.search(envelope.message)
        assert found is not None, "a mail without the Message-ID of its row"
        self.row = int(found[1])
        self.claim = claim
        self.at = At.ENVELOPE
        self.waits = False
        self._taken, self._moved = taken, moved
        self._words: asyncio.Queue[Word] = asyncio.Queue()

    async def run(self, before_data: BeforeData) -> Submission:
        """Goes through the steps of the pool's transaction: recipient, marker, message, reply."""
        refusal = classify(Stage.RCPT, await self._hear(At.ENVELOPE))
        if refusal is not None:
            return refusal
        if not await before_data():
            return Submission(Verdict.NOT_SENT, Stage.DATA, text="not allowed to send")
        if isinstance(await self._hear(At.MARKED), Loss):
            return lost(Stage.DATA, Loss.DROPPED)
        verdict = classify(Stage.MESSAGE, await self._hear(At.DATA))
        assert verdict is not None  # after the message every reply decides
        return verdict

    @property
    def key(self) -> Key:
        return self.row, self.claim

    def take(self) -> None:
        """The server accepts the message."""
        self._taken[self.row] += 1

    def say(self, word: Word) -> None:
        """The server gives that reply, or the connection is lost."""
        self.waits = False
        self._words.put_nowait(word)

    async def _hear(self, at: At) -> Word:
        self.at, self.waits = at, True
        self._moved()
        return await self._words.get()


class SteppedNotifier:
    """One notifier process: it moves only when the test tells it, and can die at any step."""

    def __init__(self, database: Database, renderer: Renderer, taken: Counter[int], *, policy: str) -> None:
        self.parts = NotifierParts(database, renderer, unknown_policy=policy)
        self.parts.add_sender(ScriptedSmtp(port=9), pool_size=8)
        self.parts.sender._pool = self  # type: ignore[assignment]
        self.conversations: dict[Key, Conversation] = {}
        self._database, self._taken = database, taken
        self._batches: set[asyncio.Task[None]] = set()
        self._moved = asyncio.Event()
        self._claimed: set[Key] = set()
        self._forgets_outcomes = False
        ledger = self.parts.ledger
        self._claim, self._record = ledger.claim, ledger.record
        ledger.claim, ledger.record = self._on_claim, self._on_record  # type: ignore[method-assign]

    async def send(self, ids: Sequence[int]) -> None:
        """Handles a message with these rows; returns when each claimed row waits for the server, or has ended."""
        if not ids:
            return
        self._claimed = set()
        batch = asyncio.create_task(self.parts.send(ids))
        self._batches.add(batch)
        batch.add_done_callback(lambda _: self._moved.set())
        await self._until(lambda: batch.done() or self._all_wait())

    async def hear(self, conversation: Conversation, word: Word) -> None:
        """The server gives that reply; returns when the conversation waits again, or has ended."""
        conversation.say(word)
        await self._until(lambda: conversation.key not in self.conversations or conversation.waits)

    async def die_hearing(self, conversation: Conversation, word: Word) -> None:
        """The process receives the server's reply, and dies before it writes the outcome."""
        self._forgets_outcomes = True
        await self.hear(conversation, word)
        await self.die()

    async def renew_leases(self) -> None:
        """Renews the leases, as a running process does every few seconds."""
        async with self._database.transaction() as transaction:
            await deliveries.renew(transaction, self.parts.ledger._claimed.values(), lease=LEASE)

    async def die(self) -> None:
        """Ends everything where it is; nothing more is written."""
        self._forgets_outcomes = True
        for batch in list(self.parts.sender._batches):
            batch.cancel()
        await asyncio.gather(*self._batches, return_exceptions=True)
        self.conversations.clear()
        await self.parts.close()

    # --- the pool, as the sender calls it

    async def submit(self, envelope: OutgoingMail, before_data: BeforeData) -> Submission:
        row: Claimed = cast("partial[Any]", before_data).args[0]
        conversation = Conversation(self._taken, row.claim, envelope, self._moved.set)
        self.conversations[conversation.key] = conversation
        return await conversation.run(before_data)

    # --- the ledger, as the sender calls it

    async def _on_claim(self, ids: Sequence[int]) -> Sequence[Claimed]:
        rows = await self._claim(ids)
        self._claimed = {(row.id, row.claim) for row in rows}
        return rows

    def _on_record(self, change: Change) -> "asyncio.Future[bool]":
        if self._forgets_outcomes:
            self._over((change.id, change.claim))
            return asyncio.get_running_loop().create_future()
        written = self._record(change)
        written.add_done_callback(lambda _: self._over((change.id, change.claim)))
        return written

    def _over(self, key: Key) -> None:
        self.conversations.pop(key, None)
        self._claimed.discard(key)
        self._moved.set()

    def _all_wait(self) -> bool:
        found = [self.conversations.get(key) for key in self._claimed]
        return bool(found) and all(it is not None and it.waits for it in found)

    async def _until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(LIMIT):
            while not condition():
                self._moved.clear()
                await self._moved.wait()
