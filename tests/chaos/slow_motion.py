"""A mail server and notifiers in slow motion: every conversation waits to be told how it goes on, or where it dies.

The notifiers' planner, ledger, sender and sweeper are the real ones, on a real database; only SMTP is played.
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
from tests.integration.notifier.ledger.rooms import LEASE, Rooms
from tests.support.scripted_smtp import ScriptedSmtp

_ROW = re.compile(rb"^Message-ID: <overdue\.(\d+)@example\.org>\r?$", re.MULTILINE | re.IGNORECASE)
LIMIT = 20.0  # seconds for something to happen that only a failing test waits for so long

Word = Reply | Loss
Key = tuple[int, UUID | None]
"""Row and claim."""

GO_ON = Reply(250, "go on")


class At(Enum):
    """Where a conversation waits."""

    ENVELOPE = auto()
    """The recipient is named; not a byte of the message has gone."""
    MARKED = auto()
    """The marker is committed, and still no byte has gone."""
    DATA = auto()
    """The message is on its way, or there."""


class Conversation:
    """One submission, under way; `taken` counts for the server what it took, by the ledger's row."""

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
        """As the pool's transaction does it: recipient, marker, message, reply."""
        refusal = classify(Stage.RCPT, await self._hear(At.ENVELOPE))
        if refusal is not None:
            return refusal
        if not await before_data():
            return Submission(Verdict.NOT_SENT, Stage.DATA, text="not allowed to send")
        if isinstance(await self._hear(At.MARKED), Loss):
            return lost(Stage.DATA, Loss.DROPPED)
        verdict = classify(Stage.MESSAGE, await self._hear(At.DATA))
        assert verdict is not None  # whatever follows the message decides
        return verdict

    @property
    def key(self) -> Key:
        return self.row, self.claim

    def take(self) -> None:
        """The message has come whole, and the server has it."""
        self._taken[self.row] += 1

    def say(self, word: Word) -> None:
        """The server says that, or goes."""
        self.waits = False
        self._words.put_nowait(word)

    async def _hear(self, at: At) -> Word:
        self.at, self.waits = at, True
        self._moved()
        return await self._words.get()


class Notifier:
    """One process: it stands still unless it is told to go on, and can die at any moment."""

    def __init__(self, database: Database, renderer: Renderer, taken: Counter[int], *, policy: str) -> None:
        self.rooms = Rooms(database, renderer, unknown_policy=policy)
        self.rooms.hires_sender(ScriptedSmtp(port=9), pool_size=8)
        self.rooms.sender._pool = self  # type: ignore[assignment]
        self.conversations: dict[Key, Conversation] = {}
        self._database, self._taken = database, taken
        self._batches: set[asyncio.Task[None]] = set()
        self._moved = asyncio.Event()
        self._claimed: set[Key] = set()
        self._forgets_outcomes = False
        ledger = self.rooms.ledger
        self._claim, self._record = ledger.claim, ledger.record
        ledger.claim, ledger.record = self._on_claim, self._on_record  # type: ignore[method-assign]

    async def send(self, ids: Sequence[int]) -> None:
        """A message with these rows comes in; returns when each that was claimed waits for the server, or is over."""
        if not ids:
            return
        self._claimed = set()
        batch = asyncio.create_task(self.rooms.send(ids))
        self._batches.add(batch)
        batch.add_done_callback(lambda _: self._moved.set())
        await self._until(lambda: batch.done() or self._all_wait())

    async def hear(self, talk: Conversation, word: Word) -> None:
        """The server says that; returns when the conversation waits again, or is over."""
        talk.say(word)
        await self._until(lambda: talk.key not in self.conversations or talk.waits)

    async def die_hearing(self, talk: Conversation, word: Word) -> None:
        """The server's reply is heard, and before it is written the process dies."""
        self._forgets_outcomes = True
        await self.hear(talk, word)
        await self.die()

    async def renew_leases(self) -> None:
        """What a process that is awake does every few seconds."""
        async with self._database.transaction() as tx:
            await deliveries.renew(tx, self.rooms.ledger._held.values(), lease=LEASE)

    async def die(self) -> None:
        """Everything stops where it is, and nothing more is written."""
        self._forgets_outcomes = True
        for batch in list(self.rooms.sender._batches):
            batch.cancel()
        await asyncio.gather(*self._batches, return_exceptions=True)
        self.conversations.clear()
        await self.rooms.close()

    # --- what the sender takes for its pool

    async def submit(self, envelope: OutgoingMail, before_data: BeforeData) -> Submission:
        row: Claimed = cast("partial[Any]", before_data).args[0]
        talk = Conversation(self._taken, row.claim, envelope, self._moved.set)
        self.conversations[talk.key] = talk
        return await talk.run(before_data)

    # --- what it tells and asks its ledger

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
