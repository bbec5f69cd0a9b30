"""When sending pauses, and how it comes back."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
import pytest_asyncio
from tests.support.waiting import eventually

from taskbell_notifier.smtp.breaker import Breaker, BreakerState, BreakerStatus, Waits
from taskbell_notifier.smtp.replies import Stage, Submission, Verdict

ACCEPTED = Submission(Verdict.ACCEPTED, Stage.MESSAGE, 250)
SERVER_FAULT = Submission(Verdict.SERVER_FAULT, Stage.CONNECT, text="refused")
WRONG_PASSWORD = Submission(Verdict.CONFIGURATION_FAULT, Stage.AUTH, 535, "5.7.8", "wrong")
NO_WAIT = Waits(first=0, longest=0, configuration=0)


class Hands:
    """A clock that goes on by a second each time it is read."""

    def __init__(self) -> None:
        self.time = datetime(2026, 11, 20, 7, tzinfo=UTC)

    def now(self) -> datetime:
        self.time += timedelta(seconds=1)
        return self.time


class Server:
    """What a probe finds: it waits until the test says so."""

    def __init__(self) -> None:
        self.findings: asyncio.Queue[Submission | Exception | None] = asyncio.Queue()
        self.probes = 0

    async def probe(self) -> Submission | None:
        self.probes += 1
        found = await self.findings.get()
        if isinstance(found, Exception):
            raise found
        return found


class Bench:
    """A breaker for eight sessions with everything around it."""

    def __init__(self, waits: Waits = NO_WAIT, sessions: int = 8) -> None:
        self.server = Server()
        self.changes: list[BreakerStatus] = []
        self.breaker = Breaker(
            self.server.probe,
            sessions=sessions,
            clock=Hands(),
            on_change=self.changes.append,
            rng=Random(1),
            waits=waits,
        )

    def record(self, submission: Submission, times: int = 1) -> None:
        for _ in range(times):
            self.breaker.record(submission)

    def state(self) -> BreakerState:
        return self.breaker.state

    async def resumed(self) -> None:
        self.server.findings.put_nowait(None)
        await eventually(lambda: self.breaker.status.allows_sending)


@pytest_asyncio.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    await made.breaker.close()


def states(bench: Bench) -> list[BreakerState]:
    return [change.state for change in bench.changes]


async def test_all_is_well_at_first(bench: Bench) -> None:
    assert bench.state() == BreakerState.SENDING
    assert bench.breaker.reason == ""
    assert bench.breaker.allowance == 8
    assert bench.breaker.status.allows_sending


async def test_nine_server_faults_in_a_row_are_borne_and_the_tenth_pauses(bench: Bench) -> None:
    bench.record(SERVER_FAULT, 9)
    assert bench.state() == BreakerState.SENDING
    bench.record(SERVER_FAULT)
    assert bench.state() == BreakerState.SERVER_FAULT
    assert bench.breaker.reason == "connect: refused"
    assert not bench.breaker.status.allows_sending


@pytest.mark.parametrize("verdict", [Verdict.ACCEPTED, Verdict.RETRY, Verdict.FAILED, Verdict.UNKNOWN])
async def test_any_mail_that_was_tried_ends_the_row(bench: Bench, verdict: Verdict) -> None:
    bench.record(SERVER_FAULT, 9)
    bench.record(Submission(verdict))
    bench.record(SERVER_FAULT, 9)
    assert bench.state() == BreakerState.SENDING


@pytest.mark.parametrize("verdict", [Verdict.PAUSED, Verdict.NOT_SENT])
async def test_what_says_nothing_about_the_server_ends_no_row(bench: Bench, verdict: Verdict) -> None:
    bench.record(SERVER_FAULT, 9)
    bench.record(Submission(verdict))
    bench.record(SERVER_FAULT)
    assert bench.state() == BreakerState.SERVER_FAULT


async def test_one_configuration_fault_pauses_at_once(bench: Bench) -> None:
    bench.record(WRONG_PASSWORD)
    assert bench.state() == BreakerState.CONFIGURATION_FAULT
    assert bench.breaker.reason == "AUTH: 535 5.7.8 wrong"


async def test_a_probe_that_succeeds_lets_one_session_send_then_two_then_four_then_all(bench: Bench) -> None:
    bench.record(WRONG_PASSWORD)
    await bench.resumed()
    assert bench.state() == BreakerState.RESUMING
    allowances = [bench.breaker.allowance]
    for _ in range(3):
        bench.record(ACCEPTED)
        allowances.append(bench.breaker.allowance)
    assert allowances == [1, 2, 4, 8]
    assert bench.state() == BreakerState.SENDING
    assert bench.breaker.reason == ""
    assert states(bench) == [BreakerState.CONFIGURATION_FAULT, BreakerState.RESUMING, BreakerState.SENDING]


async def test_a_pool_of_one_session_resumes_too() -> None:
    bench = Bench(sessions=1)
    bench.record(SERVER_FAULT, 10)
    await bench.resumed()
    bench.record(ACCEPTED)
    assert bench.state() == BreakerState.SENDING


async def test_silence_while_resuming_does_not_widen(bench: Bench) -> None:
    bench.record(WRONG_PASSWORD)
    await bench.resumed()
    bench.record(Submission(Verdict.RETRY, Stage.MAIL, text="no reply in time"))
    assert bench.breaker.allowance == 1


async def test_one_server_fault_while_resuming_pauses_again(bench: Bench) -> None:
    bench.record(SERVER_FAULT, 10)
    await bench.resumed()
    bench.record(SERVER_FAULT)
    assert bench.state() == BreakerState.SERVER_FAULT
    await bench.resumed()
    assert bench.state() == BreakerState.RESUMING
    assert bench.server.probes == 2


async def test_probing_goes_on_until_one_succeeds_and_follows_what_it_finds(bench: Bench) -> None:
    bench.record(SERVER_FAULT, 10)
    since = bench.breaker.since
    bench.server.findings.put_nowait(SERVER_FAULT)
    bench.server.findings.put_nowait(WRONG_PASSWORD)
    await eventually(lambda: bench.state() is BreakerState.CONFIGURATION_FAULT)
    assert bench.breaker.since > since
    assert bench.breaker.reason == "AUTH: 535 5.7.8 wrong"
    await bench.resumed()
    assert bench.server.probes == 3
    assert states(bench) == [BreakerState.SERVER_FAULT, BreakerState.CONFIGURATION_FAULT, BreakerState.RESUMING]


async def test_a_new_reason_for_the_same_pause_does_not_begin_it_anew(bench: Bench) -> None:
    bench.record(SERVER_FAULT, 10)
    since = bench.breaker.since
    bench.server.findings.put_nowait(Submission(Verdict.SERVER_FAULT, Stage.EHLO, 451, text="busy"))
    await eventually(lambda: bench.breaker.reason == "EHLO: 451 busy")
    assert bench.breaker.since == since


async def test_a_probe_that_breaks_is_a_fault_and_does_not_end_the_probing(bench: Bench) -> None:
    bench.record(SERVER_FAULT, 10)
    bench.server.findings.put_nowait(ZeroDivisionError("oops"))
    await eventually(lambda: "ZeroDivisionError" in bench.breaker.reason)
    await bench.resumed()


async def test_faults_that_come_in_late_while_paused_change_nothing(bench: Bench) -> None:
    bench.record(SERVER_FAULT, 10)
    bench.record(WRONG_PASSWORD)
    bench.record(SERVER_FAULT, 20)
    assert states(bench) == [BreakerState.SERVER_FAULT]
    await bench.resumed()
    assert bench.server.probes == 1


def test_probes_of_a_server_fault_come_after_1_2_4_seconds_up_to_30_give_or_take_a_fifth() -> None:
    for failed, nominal in enumerate([1, 2, 4, 8, 16, 30, 30, 30]):
        waits = [Waits().before_probe(BreakerState.SERVER_FAULT, failed, Random(seed)) for seed in range(200)]
        assert 0.8 * nominal <= min(waits) < 0.83 * nominal
        assert 1.17 * nominal < max(waits) <= 1.2 * nominal


def test_probes_of_a_configuration_fault_come_every_30_seconds() -> None:
    assert [Waits().before_probe(BreakerState.CONFIGURATION_FAULT, failed, Random(1)) for failed in range(3)] == [
        30.0
    ] * 3


@dataclass(frozen=True)
class NotedWaits(Waits):
    """Waits for nothing, and keeps what it was asked."""

    asked: list[tuple[BreakerState, int]] = field(default_factory=list)

    def before_probe(self, state: BreakerState, failed: int, rng: Random) -> float:
        self.asked.append((state, failed))
        return 0.0


async def test_the_wait_grows_until_all_is_well_again() -> None:
    waits = NotedWaits()
    bench = Bench(waits, sessions=1)
    bench.server.findings.put_nowait(SERVER_FAULT)
    bench.record(SERVER_FAULT, 10)
    await bench.resumed()
    bench.record(SERVER_FAULT)  # while resuming: not well yet
    await bench.resumed()
    bench.record(ACCEPTED)
    bench.record(SERVER_FAULT, 10)
    await bench.resumed()
    assert waits.asked == [(BreakerState.SERVER_FAULT, failed) for failed in (0, 1, 2, 0)]


async def test_a_fault_that_comes_in_after_the_end_starts_no_probing(bench: Bench) -> None:
    await bench.breaker.close()
    bench.record(WRONG_PASSWORD)
    assert bench.state() is BreakerState.CONFIGURATION_FAULT
    for _ in range(5):
        await asyncio.sleep(0)
    assert bench.server.probes == 0


async def test_closed_it_probes_no_more(bench: Bench) -> None:
    bench.record(SERVER_FAULT, 10)
    await eventually(lambda: bench.server.probes == 1)
    await bench.breaker.close()
    bench.server.findings.put_nowait(None)
    assert not bench.breaker.status.allows_sending
