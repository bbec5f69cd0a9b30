"""A delivery's life under everything that can happen to it, in any order that hypothesis thinks of.

Several notifiers claim, send, stall, wake and die at every point of a submission, while time goes on, mailings are
cancelled and rows expire. After each step the ledger must agree with what the mail server took.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, ClassVar, TypeVar

import hypothesis
import hypothesis.strategies as st
import pytest
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from taskbell.contracts import OverdueDue, SendBatch
from taskbell.database import Database
from taskbell_notifier.lifecycle import CUT_OFFS, ENDED, OUTCOME_UNKNOWN, DeliveryState
from taskbell_notifier.mail.links import Links
from taskbell_notifier.mail.render import Renderer
from taskbell_notifier.smtp.replies import Loss, Reply
from tests.chaos.support.plan import Plan
from tests.chaos.support.stepped_notifier import GO_ON, At, Conversation, SteppedNotifier
from tests.integration.notifier.ledger.support import NotifierTables, settings_for
from tests.support.kinds import KINDS
from tests.support.virtual_clock import VirtualClock

Answer = TypeVar("Answer")

NOTIFIERS = 2
PEOPLE = 1
MAILINGS = 8
"""At most: so few rows at a time are open that a run gets deep into the life of each."""
PASSING: Sequence[tuple[int, Set[int]]] = (
    *((2, {number}) for number in range(NOTIFIERS)),  # the lease of an envelope is over
    *((5, asleep) for asleep in (set(), {0}, {1})),
    *((12, asleep) for asleep in (set(), {0}, {1})),  # that of a message, too, and pauses between tries
    (360, set()),
)
"""Minutes that go by, and which notifiers renew no lease in them."""

CHOICE_STEPS = 10_000
CHOICES = st.integers(0, CHOICE_STEPS - 1)
"""Which of the possible actions is next, as a share of them."""

TAKEN = Reply(250, "2.0.0 taken")
OBJECTIONS: Mapping[At, tuple[Reply | Loss, ...]] = {
    At.ENVELOPE: (Reply(450, "4.2.0 later"), Loss.DROPPED, Reply(550, "5.7.1 no"), Reply(550, "5.1.1 no such user")),
    At.MARKED: (Loss.DROPPED,),
    At.DATA: (Reply(452, "4.3.1 full"), Loss.DROPPED, Reply(554, "5.6.0 no")),
}


class Action:
    """Something that can happen, and how an example names it."""

    def __init__(self, name: str, perform: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self.name, self.perform = name, perform

    def __repr__(self) -> str:
        return self.name


@dataclass
class SharedByExamples:
    """What all examples share: the servers' part, and the loop in which it lives."""

    runner: asyncio.Runner
    tables: NotifierTables
    clock: VirtualClock
    renderer: Renderer

    def run(self, work: Coroutine[Any, Any, Answer]) -> Answer:
        return self.runner.run(work)

    @classmethod
    def open(cls, runner: asyncio.Runner, url: str) -> "SharedByExamples":
        async def open_() -> SharedByExamples:
            clock = VirtualClock(url)
            await clock.install()
            tables = NotifierTables(Database.connect(settings_for(url), name="states"))
            await tables.late_people(*range(1, PEOPLE + 1))
            return cls(runner, tables, clock, Renderer(KINDS, Links("https://app.example.org")))

        return runner.run(open_())

    def close(self) -> None:
        self.run(self.tables.database.close())
        self.run(self.clock.close())


class Deliveries(RuleBasedStateMachine):
    """The ledger, and what must be true of it."""

    shared: ClassVar[SharedByExamples]
    policy: ClassVar[str] = "resend"
    most: ClassVar[int] = 2
    """How often a row may be taken whose sender died, stalled or was cut off in the data window."""

    def __init__(self) -> None:
        super().__init__()
        self.tables = self.shared.tables
        self.now = self.tables.now
        self.taken: Counter[int] = Counter()
        self.in_window: set[int] = set()
        """Rows with a death, a stall or a lost reply between the marker and the commit."""
        self.marked_at: dict[Conversation, datetime] = {}
        self.lapsed: set[Conversation] = set()
        """Those whose lease has run out: anybody may have their rows."""
        self.ended: dict[int, Mapping[str, Any]] = {}
        self.mailings = 0
        self.rows = PEOPLE
        """How many rows there are."""
        self.sound = True
        self.notifiers: list[SteppedNotifier] = []

    # --- what happens

    @initialize()
    def begin(self) -> None:
        self.run(self._begin())

    async def _begin(self) -> None:
        await self.tables.execute(
            "TRUNCATE taskbell.mailing, taskbell.delivery, taskbell.outbox, taskbell.suppression RESTART IDENTITY"
        )
        await self.shared.clock.set(self.now)
        self.notifiers = [self._new_notifier() for _ in range(NOTIFIERS)]
        await self._plan(OverdueDue())

    def _new_notifier(self) -> SteppedNotifier:
        return SteppedNotifier(self.tables.database, self.shared.renderer, self.taken, policy=self.policy)

    async def _plan(self, event: OverdueDue) -> None:
        self.mailings += 1
        await self.notifiers[0].parts.plan(event, f"m{self.mailings}")

    @rule(data=st.data())
    def something_happens(self, data: st.DataObject) -> None:
        """One rule for all that can happen: rules of their own would be switched off for whole examples."""
        possible = self._possible()
        # How many there are may hang on how fast this machine is; what is drawn must not.
        action = possible[data.draw(CHOICES) * len(possible) // CHOICE_STEPS]
        hypothesis.note(action.name)
        self.run(action.perform())

    def _possible(self) -> list[Action]:
        """What can happen next, as often as it is likely to."""
        actions: list[Action] = []
        for number, notifier in enumerate(self.notifiers):
            actions += 3 * [Action(f"{number} is told to send", partial(self._send, notifier))]
            for conversation in sorted(notifier.conversations.values(), key=lambda conversation: conversation.row):
                actions += self._possible_in(number, notifier, conversation)
            if notifier.conversations:
                actions.append(Action(f"{number} dies", partial(self._dies, notifier, taken=False)))
                actions.append(Action(f"{number} dies, all is taken", partial(self._dies, notifier, taken=True)))
        for minutes, asleep in PASSING:
            actions.append(Action(f"{minutes} min pass, {asleep} asleep", partial(self._time_goes_on, minutes, asleep)))
        if self.mailings < MAILINGS and len(self.ended) == self.rows:
            actions += 5 * [Action("another run", self._plan_another_run)]
            actions += [Action("the same run again", self._plan_same_run)]
        return [*actions, Action("all is cancelled", self._cancel)]

    def _possible_in(self, number: int, notifier: SteppedNotifier, conversation: Conversation) -> list[Action]:
        says = partial(self._says, notifier, conversation)
        named = f"row {conversation.row} of {number}, {conversation.at.name}:"
        actions = 5 * [Action(f"{named} goes on", partial(says, TAKEN if conversation.at is At.DATA else GO_ON))]
        actions += [Action(f"{named} {word}", partial(says, word)) for word in OBJECTIONS[conversation.at]]
        if conversation.at is At.DATA:
            actions += 2 * [Action(f"{named} taken, reply lost", partial(self._reply_is_lost, notifier, conversation))]
            actions += 2 * [
                Action(f"{named} taken, dies before commit", partial(self._dies_hearing, notifier, conversation))
            ]
        return actions

    async def _plan_another_run(self) -> None:
        self.rows += PEOPLE
        await self._plan(OverdueDue(force=True))

    async def _plan_same_run(self) -> None:
        await self._plan(OverdueDue())

    async def _send(self, notifier: SteppedNotifier) -> None:
        """A message with every row there may be: which of them may be sent is for the claim to say."""
        await notifier.send(range(1, PEOPLE * MAILINGS + 1))

    async def _says(self, notifier: SteppedNotifier, conversation: Conversation, word: Reply | Loss) -> None:
        if word is TAKEN:
            conversation.take()
        if conversation.at is At.DATA and isinstance(word, Loss):
            self.in_window.add(conversation.row)
        was_at = conversation.at
        await notifier.hear(conversation, word)
        if was_at is At.ENVELOPE and conversation.at is At.MARKED:
            self.marked_at[conversation] = self.now
            claim = await self.tables.value("SELECT claim FROM taskbell.delivery WHERE id = :id", id=conversation.row)
            assert claim == conversation.claim, f"row {conversation.row} was marked by somebody who had lost it"

    async def _reply_is_lost(self, notifier: SteppedNotifier, conversation: Conversation) -> None:
        conversation.take()
        await self._says(notifier, conversation, Loss.DROPPED)

    async def _dies_hearing(self, notifier: SteppedNotifier, conversation: Conversation) -> None:
        conversation.take()
        self._window_of(notifier)
        await notifier.die_hearing(conversation, TAKEN)
        self._replace(notifier)

    async def _dies(self, notifier: SteppedNotifier, *, taken: bool) -> None:
        """Wherever its conversations are; `taken`: what was in the data, the server has."""
        for conversation in notifier.conversations.values():
            if taken and conversation.at is At.DATA:
                conversation.take()
        self._window_of(notifier)
        await notifier.die()
        self._replace(notifier)

    def _replace(self, notifier: SteppedNotifier) -> None:
        self.notifiers[self.notifiers.index(notifier)] = self._new_notifier()

    async def _time_goes_on(self, minutes: int, asleep: Set[int]) -> None:
        """So long, and whoever sweeps looks at what is due by then.

        A notifier that is asleep renews no lease; what it had begun goes on when it wakes.
        """
        self.now += timedelta(minutes=minutes)
        await self.shared.clock.set(self.now)
        for number, notifier in enumerate(self.notifiers):
            if number not in asleep:
                await notifier.renew_leases()
        for number, notifier in enumerate(self.notifiers):
            for conversation in notifier.conversations.values():
                if conversation.at is At.ENVELOPE:
                    over = number in asleep
                elif over := self.marked_at[conversation] + notifier.parts.ledger._data <= self.now:
                    self.in_window.add(conversation.row)
                self.lapsed |= {conversation} if over else set()
        await self._sweep(self.notifiers[0])

    async def _sweep(self, notifier: SteppedNotifier) -> None:
        sweeper = notifier.parts.sweeper()
        while await sweeper.sweep():
            pass

    async def _cancel(self) -> None:
        await self.tables.execute("UPDATE taskbell.mailing SET state = 'cancelled' WHERE completed_at IS NULL")
        # The marker refuses them from now on, so a sweeper may end their rows.
        found = [it for notifier in self.notifiers for it in notifier.conversations.values()]
        self.lapsed |= {conversation for conversation in found if conversation.at is At.ENVELOPE}

    # --- what must be true

    @invariant()
    def the_ledger_agrees_with_the_server(self) -> None:
        self.sound = False
        rows = self.run(self._rows())
        for number, row in rows.items():
            self._check(number, row)
        for _, conversation in self.under_way:
            row = rows[conversation.row]
            if conversation not in self.lapsed:
                assert (row["state"], row["claim"]) == (DeliveryState.SENDING, conversation.claim), (
                    f"taken from who holds it: {row}"
                )
        self.sound = True

    def _check(self, number: int, row: Mapping[str, Any]) -> None:
        taken, allowed = self.taken[number], self.most if number in self.in_window else 1
        assert taken <= allowed, f"taken {taken} times: {row}"
        assert row["resends"] == 1 or (taken < 2 and row["resends"] == 0), f"resent, and not counted so: {row}"
        assert number in self.in_window or row["unknown_at"] is None, f"unknown for no reason: {row}"
        if row["state"] == DeliveryState.SENT:
            assert taken, f"sent, and never taken: {row}"
        if row["state"] in ENDED:
            assert row["ended_at"] is not None
            assert row["reason"], f"ended for no reason: {row}"
            assert self.ended.setdefault(number, row) == row, "changed after its end"

    def teardown(self) -> None:
        try:
            if self.sound and self.notifiers:
                self.run(self._everything_ends())
        finally:
            for notifier in self.notifiers:
                self.run(notifier.die())

    async def _everything_ends(self) -> None:
        """Whoever stalls dies, one notifier is left, and the server takes all: nothing may be left open."""
        for notifier in self.notifiers:
            self._window_of(notifier)
            await notifier.die()
        self.notifiers = [last] = [self._new_notifier()]
        for _ in range(CUT_OFFS):
            await self._time_goes_on(300, set())
            for ids in await self._messages():
                await last.send(ids)
                while last.conversations:
                    conversation = next(iter(last.conversations.values()))
                    if conversation.at is At.DATA:
                        conversation.take()
                    await last.hear(conversation, TAKEN)
            rows = await self._rows()
            if all(row["state"] in ENDED for row in rows.values()):
                break
        for number, row in rows.items():
            assert row["state"] in ENDED, f"left open: {row}"
            self._check(number, row)
            in_doubt = number in self.in_window and str(row["reason"]).startswith(OUTCOME_UNKNOWN)
            assert not self.taken[number] or row["state"] == DeliveryState.SENT or in_doubt, (
                f"taken, and not sent: {row}"
            )

    # --- helpers

    def run(self, work: Coroutine[Any, Any, Answer]) -> Answer:
        return self.shared.run(work)

    @property
    def under_way(self) -> list[tuple[SteppedNotifier, Conversation]]:
        return [
            (notifier, conversation) for notifier in self.notifiers for conversation in notifier.conversations.values()
        ]

    async def _rows(self) -> dict[int, Mapping[str, Any]]:
        return {row["id"]: row for row in await self.tables.rows("SELECT * FROM taskbell.delivery ORDER BY id")}

    async def _messages(self) -> list[tuple[int, ...]]:
        """What the outbox holds for the notifiers, published now."""
        rows = await self.tables.rows(
            "UPDATE taskbell.outbox SET published_at = now()"
            " WHERE published_at IS NULL AND routing_key = 'notifier.send_batch' RETURNING body::text AS body"
        )
        return [SendBatch.parse(row["body"].encode()).delivery_ids for row in rows]

    def _window_of(self, notifier: SteppedNotifier) -> None:
        """Dying now, it leaves these rows in doubt."""
        self.in_window |= {
            conversation.row for conversation in notifier.conversations.values() if conversation.at is not At.ENVELOPE
        }


@pytest.fixture
def shared(database_url: str) -> Iterator[SharedByExamples]:
    """In a loop of its own: hypothesis calls, and is not awaited."""
    with asyncio.Runner() as runner:
        shared = SharedByExamples.open(runner, database_url)
        yield shared
        shared.close()


@pytest.mark.parametrize(("policy", "most"), [("resend", 2), ("hold", 1)])
def test_whatever_happens_each_row_ends_and_is_taken_as_often_as_the_ledger_says(
    shared: SharedByExamples, plan: Plan, seed: int, policy: str, most: int
) -> None:
    machine = type("Deliveries", (Deliveries,), {"shared": shared, "policy": policy, "most": most})
    phases = [hypothesis.Phase.generate, *plan.pick(quick=[], full=[hypothesis.Phase.shrink])]
    size = hypothesis.settings(
        max_examples=plan.pick(quick=15, full=80), stateful_step_count=40, database=None, phases=phases
    )
    run_state_machine_as_test(hypothesis.seed(seed)(machine), settings=size)
