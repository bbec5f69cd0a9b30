"""A delivery's life under everything that can happen to it, in any order that hypothesis thinks of.

Several notifiers claim, send, stall, wake and die at every point of a submission, while time goes on, mailings are
cancelled and rows expire. After each step the ledger must agree with what the mail server took.
"""

import asyncio
from collections import Counter
from collections.abc import Coroutine, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, ClassVar, TypeVar

import hypothesis
import hypothesis.strategies as st
import pytest
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from taskbell.contracts import OverdueDue, SendBatch
from taskbell.database import Database
from taskbell_notifier.lifecycle import CUT_OFFS, ENDED, OUTCOME_UNKNOWN, State
from taskbell_notifier.mail.links import Links
from taskbell_notifier.mail.render import Renderer
from taskbell_notifier.smtp.replies import Loss, Reply
from tests.chaos.plan import Plan
from tests.chaos.post import GO_ON, At, Conversation, Notifier
from tests.integration.notifier.ledger.house import Town, settings_for
from tests.support.virtual_clock import VirtualClock

Answer = TypeVar("Answer")

NOTIFIERS = 3
PEOPLE = 3
MAILINGS = 3
TAKEN = Reply(250, "2.0.0 taken")
BUSY = Reply(450, "4.2.0 later")
NO_SUCH_USER = Reply(550, "5.1.1 no such user")
WORDS: Mapping[At, tuple[Reply | Loss, ...]] = {
    At.ENVELOPE: (GO_ON, GO_ON, GO_ON, BUSY, NO_SUCH_USER, Loss.DROPPED, Reply(550, "5.7.1 no")),
    At.MARKED: (GO_ON, GO_ON, GO_ON, Loss.DROPPED),
    At.DATA: (TAKEN, TAKEN, Reply(452, "4.3.1 full"), Reply(554, "5.6.0 no"), Loss.DROPPED),
}


@dataclass
class House:
    """What all examples share: the servers' part, and the loop in which it lives."""

    runner: asyncio.Runner
    town: Town
    clock: VirtualClock
    renderer: Renderer

    def run(self, work: Coroutine[Any, Any, Answer]) -> Answer:
        return self.runner.run(work)

    @classmethod
    def open(cls, runner: asyncio.Runner, url: str) -> "House":
        async def open_() -> House:
            clock = VirtualClock(url)
            await clock.install()
            town = Town(Database.connect(settings_for(url), name="states"))
            await town.late_people(*range(1, PEOPLE + 1))
            return cls(runner, town, clock, Renderer(Links("https://app.example.org")))

        return runner.run(open_())

    def close(self) -> None:
        self.run(self.town.database.close())
        self.run(self.clock.close())


class Deliveries(RuleBasedStateMachine):
    """The ledger, and what must be true of it."""

    house: ClassVar[House]
    policy: ClassVar[str] = "resend"
    most: ClassVar[int] = 2
    """How often a row may be taken whose sender died, stalled or was cut off in the data window."""

    def __init__(self) -> None:
        super().__init__()
        self.town = self.house.town
        self.now = self.town.now
        self.taken: Counter[int] = Counter()
        self.in_window: set[int] = set()
        """Rows with a death, a stall or a lost reply between the marker and the commit."""
        self.marked_at: dict[Conversation, datetime] = {}
        self.ended: dict[int, Mapping[str, Any]] = {}
        self.mailings = 0
        self.sound = True
        self.notifiers: list[Notifier] = []

    # --- what happens

    @initialize()
    def begin(self) -> None:
        self.run(self._begin())

    async def _begin(self) -> None:
        await self.town.execute(
            "TRUNCATE taskbell.mailing, taskbell.delivery, taskbell.outbox, taskbell.suppression RESTART IDENTITY"
        )
        await self.house.clock.set(self.now)
        self.notifiers = [self._hired() for _ in range(NOTIFIERS)]
        await self._plan(OverdueDue())

    def _hired(self) -> Notifier:
        return Notifier(self.town.database, self.house.renderer, self.taken, policy=self.policy)

    async def _plan(self, event: OverdueDue) -> None:
        self.mailings += 1
        await self.notifiers[0].rooms.plan(event, f"m{self.mailings}")

    @precondition(lambda self: self.mailings < MAILINGS)
    @rule(force=st.booleans())
    def plan_again(self, force: bool) -> None:
        self.run(self._plan(OverdueDue(force=force)))

    @rule(which=st.integers(0, NOTIFIERS - 1), picked=st.sets(st.integers(1, PEOPLE * MAILINGS), min_size=1))
    def send(self, which: int, picked: set[int]) -> None:
        self.run(self.notifiers[which].send(sorted(picked)))

    @precondition(lambda self: self.under_way)
    @rule(data=st.data())
    def server_says(self, data: st.DataObject) -> None:
        notifier, talk = data.draw(st.sampled_from(self.under_way))
        word = data.draw(st.sampled_from(WORDS[talk.at]))
        self._before_word(talk, word, taken=word is TAKEN or (word is Loss.DROPPED and data.draw(st.booleans())))
        self.run(notifier.hear(talk, word))
        self._note_marker(notifier, talk)

    @precondition(lambda self: any(talk.at is At.DATA for _, talk in self.under_way))
    @rule(data=st.data())
    def dies_between_acceptance_and_commit(self, data: st.DataObject) -> None:
        notifier, talk = data.draw(st.sampled_from([it for it in self.under_way if it[1].at is At.DATA]))
        self._before_word(talk, TAKEN, taken=True)
        self._window_of(notifier)
        self.run(notifier.die_hearing(talk, TAKEN))
        self.notifiers[self.notifiers.index(notifier)] = self._hired()

    @precondition(lambda self: self.under_way)
    @rule(data=st.data())
    def server_takes_and_its_notifier_dies(self, data: st.DataObject) -> None:
        notifier, talk = data.draw(st.sampled_from(self.under_way))
        if talk.at is At.DATA:
            talk.take()
        self._window_of(notifier)
        self.run(notifier.die())
        self.notifiers[self.notifiers.index(notifier)] = self._hired()

    @rule(minutes=st.sampled_from([0.2, 2, 12, 70, 5 * 60]), asleep=st.sets(st.integers(0, NOTIFIERS - 1)))
    def time_goes_on(self, minutes: float, asleep: set[int]) -> None:
        self.run(self._time_goes_on(timedelta(minutes=minutes), asleep))

    async def _time_goes_on(self, passed: timedelta, asleep: set[int]) -> None:
        """A notifier that is asleep renews no lease; what it had begun goes on when it wakes."""
        self.now += passed
        await self.house.clock.set(self.now)
        for number, notifier in enumerate(self.notifiers):
            if number not in asleep:
                await notifier.renew_leases()
        self.in_window |= {
            talk.row
            for notifier, talk in self.under_way
            if talk.at is not At.ENVELOPE and self.marked_at[talk] + notifier.rooms.ledger._data <= self.now
        }

    @rule(which=st.integers(0, NOTIFIERS - 1))
    def sweep(self, which: int) -> None:
        self.run(self._sweep(self.notifiers[which]))

    async def _sweep(self, notifier: Notifier) -> None:
        sweeper = notifier.rooms.sweeper()
        while await sweeper.sweep():
            pass

    @rule(number=st.integers(1, MAILINGS))
    @precondition(lambda self: self.mailings > 1)
    def cancel(self, number: int) -> None:
        self.run(
            self.town.execute(
                "UPDATE taskbell.mailing SET state = 'cancelled' WHERE id = :id AND completed_at IS NULL", id=number
            )
        )

    # --- what must be true

    @invariant()
    def the_ledger_agrees_with_the_server(self) -> None:
        self.sound = False
        for number, row in self.run(self._rows()).items():
            self._check(number, row)
        self.sound = True

    def _check(self, number: int, row: Mapping[str, Any]) -> None:
        taken, allowed = self.taken[number], self.most if number in self.in_window else 1
        assert taken <= allowed, f"taken {taken} times: {row}"
        assert row["resends"] == 1 or (taken < 2 and row["resends"] == 0), f"resent, and not counted so: {row}"
        assert number in self.in_window or row["unknown_at"] is None, f"unknown for no reason: {row}"
        if row["state"] == State.SENT:
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
        self.notifiers = [last] = [self._hired()]
        for _ in range(CUT_OFFS):
            await self._time_goes_on(timedelta(hours=5), set())
            await self._sweep(last)
            for ids in await self._messages():
                await last.send(ids)
                while last.conversations:
                    talk = next(iter(last.conversations.values()))
                    if talk.at is At.DATA:
                        talk.take()
                    await last.hear(talk, TAKEN)
            rows = await self._rows()
            if all(row["state"] in ENDED for row in rows.values()):
                break
        for number, row in rows.items():
            assert row["state"] in ENDED, f"left open: {row}"
            self._check(number, row)
            in_doubt = number in self.in_window and str(row["reason"]).startswith(OUTCOME_UNKNOWN)
            assert not self.taken[number] or row["state"] == State.SENT or in_doubt, f"taken, and not sent: {row}"

    # --- helpers

    def run(self, work: Coroutine[Any, Any, Answer]) -> Answer:
        return self.house.run(work)

    @property
    def under_way(self) -> list[tuple[Notifier, Conversation]]:
        """All conversations, in an order that is the same when the example is run again."""
        return [
            (notifier, talk)
            for notifier in self.notifiers
            for talk in sorted(notifier.conversations.values(), key=lambda talk: talk.row)
        ]

    async def _rows(self) -> dict[int, Mapping[str, Any]]:
        return {row["id"]: row for row in await self.town.rows("SELECT * FROM taskbell.delivery ORDER BY id")}

    async def _messages(self) -> list[tuple[int, ...]]:
        """What the outbox holds for the notifiers, published now."""
        rows = await self.town.rows(
            "UPDATE taskbell.outbox SET published_at = now()"
            " WHERE published_at IS NULL AND routing_key = 'notifier.send_batch' RETURNING body::text AS body"
        )
        return [SendBatch.parse(row["body"].encode()).delivery_ids for row in rows]

    def _before_word(self, talk: Conversation, word: Reply | Loss, *, taken: bool) -> None:
        if talk.at is At.DATA and taken:
            talk.take()
        if talk.at is At.DATA and isinstance(word, Loss):
            self.in_window.add(talk.row)

    def _note_marker(self, notifier: Notifier, talk: Conversation) -> None:
        if talk in notifier.conversations.values() and talk.at is At.MARKED:
            self.marked_at[talk] = self.now

    def _window_of(self, notifier: Notifier) -> None:
        """Dying now, it leaves these rows in doubt."""
        self.in_window |= {talk.row for talk in notifier.conversations.values() if talk.at is not At.ENVELOPE}


@pytest.fixture
def house(database_url: str) -> Iterator[House]:
    """In a loop of its own: hypothesis calls, and is not awaited."""
    with asyncio.Runner() as runner:
        house = House.open(runner, database_url)
        yield house
        house.close()


@pytest.mark.parametrize(("policy", "most"), [("resend", 2), ("hold", 1)])
def test_whatever_happens_each_row_ends_and_is_taken_as_often_as_the_ledger_says(
    house: House, plan: Plan, seed: int, policy: str, most: int
) -> None:
    machine = type("Deliveries", (Deliveries,), {"house": house, "policy": policy, "most": most})
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        hypothesis.seed(seed)(machine),
        settings=hypothesis.settings(
            max_examples=plan.pick(quick=15, full=150), stateful_step_count=40, database=None, print_blob=True
        ),
    )
