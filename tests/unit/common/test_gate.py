"""A gate before work that needs a server."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from sqlalchemy.exc import DBAPIError
from tests.support.waiting import eventually

from taskbell import gate as gate_module
from taskbell.errors import BrokerUnavailable, DatabaseUnavailable
from taskbell.gate import Gate
from taskbell.health import Health


class Server:
    """Answers the probe, or does not."""

    def __init__(self) -> None:
        self.away = False
        self.probes: list[float] = []

    async def probe(self) -> None:
        self.probes.append(asyncio.get_running_loop().time())
        if self.away:
            raise DatabaseUnavailable("away")


class GateHarness:
    def __init__(self) -> None:
        self.server = Server()
        self.health = Health()
        self.gate = Gate("postgresql", self.server.probe, self.health)
        self.stop = asyncio.Event()


@pytest_asyncio.fixture
async def harness() -> AsyncIterator[GateHarness]:
    harness = GateHarness()
    running = asyncio.create_task(harness.gate.run(harness.stop))
    yield harness
    harness.stop.set()
    await asyncio.wait_for(running, 5)


async def test_it_opens_when_the_server_answers(harness: GateHarness) -> None:
    assert not harness.gate.is_open
    assert not harness.health.ready
    await asyncio.wait_for(harness.gate.wait_open(), 5)
    assert harness.gate.is_open
    assert harness.health.report()["parts"]["postgresql"] == {"state": "ready"}
    assert harness.gate.closed_since is None


async def test_tripped_it_holds_until_the_server_answers_again_and_says_why_meanwhile(harness: GateHarness) -> None:
    await harness.gate.wait_open()
    harness.server.away = True
    before = asyncio.get_running_loop().time()
    harness.gate.trip(DatabaseUnavailable("it broke"))
    assert not harness.gate.is_open
    assert harness.gate.closed_since is not None
    assert harness.gate.closed_since >= before
    assert harness.health.report()["parts"]["postgresql"] == {"state": "waiting", "detail": "it broke"}
    probes = len(harness.server.probes)
    await eventually(lambda: len(harness.server.probes) >= probes + 3)
    assert not harness.gate.is_open
    assert harness.health.report()["parts"]["postgresql"]["detail"] == "away"

    harness.server.away = False
    await asyncio.wait_for(harness.gate.wait_open(), 10)
    assert harness.health.ready


async def test_the_time_of_closing_is_that_of_the_first_trip(harness: GateHarness) -> None:
    await harness.gate.wait_open()
    harness.server.away = True
    harness.gate.trip("one")
    since = harness.gate.closed_since
    await asyncio.sleep(0.01)
    harness.gate.trip("two")
    assert harness.gate.closed_since == since


async def test_a_server_that_answers_the_probe_but_not_the_work_is_not_asked_in_a_hot_loop(
    harness: GateHarness,
) -> None:
    async def work() -> None:
        for _ in range(5):
            await harness.gate.wait_open()
            harness.gate.trip("read-only")

    await asyncio.wait_for(work(), 30)
    gaps = [later - earlier for earlier, later in zip(harness.server.probes, harness.server.probes[1:], strict=False)]
    # The first trip is probed at once; from then on 0.2 s, 0.4 s, 0.8 s lie between two probes, at least.
    assert len(gaps) >= 4
    assert [gap >= pause for gap, pause in zip(gaps[1:], (0.2, 0.4, 0.8), strict=False)] == [True, True, True]


async def test_a_gate_before_a_part_of_the_work_leaves_readiness_green() -> None:
    health = Health()
    gate = Gate("smtp", Server().probe, health, BrokerUnavailable, closed="degraded")
    gate.trip("535")
    assert health.report()["parts"]["smtp"] == {"state": "degraded", "detail": "535"}
    assert health.ready


@pytest.mark.parametrize(("error", "concerned"), [(DatabaseUnavailable("x"), True), (BrokerUnavailable("x"), False)])
def test_it_knows_which_errors_are_about_its_server(
    error: DatabaseUnavailable | BrokerUnavailable, concerned: bool
) -> None:
    assert Gate("postgresql", Server().probe, Health()).concerns(error) is concerned


async def test_it_stops_while_the_server_is_away() -> None:
    harness = GateHarness()
    harness.server.away = True
    running = asyncio.create_task(harness.gate.run(harness.stop))
    await eventually(lambda: harness.server.probes)
    harness.stop.set()
    await asyncio.wait_for(running, 5)


async def test_it_tells_since_when_it_has_been_open(harness: GateHarness) -> None:
    assert harness.gate.open_since is None
    before = asyncio.get_running_loop().time()
    await harness.gate.wait_open()
    assert harness.gate.open_since is not None
    assert harness.gate.open_since >= before
    harness.gate.trip("it broke")
    assert harness.gate.open_since is None


# --- rounds


class Work:
    """Counts its rounds, and ends each as the next of `ends` says: with a pause, or with an error."""

    def __init__(self, *ends: float | Exception) -> None:
        self.ends = list(ends)
        self.begun: list[float] = []

    @property
    def rounds(self) -> int:
        return len(self.begun)

    async def __call__(self) -> float:
        self.begun.append(asyncio.get_running_loop().time())
        end = self.ends.pop(0) if self.ends else 3600.0
        if isinstance(end, Exception):
            raise end
        return end


def refused() -> DBAPIError:
    return DBAPIError("SELECT", {}, Exception("canceling statement\nDETAIL: ada@example.org"))


async def test_rounds_follow_each_other_with_the_pause_that_each_asks_for(harness: GateHarness) -> None:
    work = Work(0.0, 0.0, 0.2)
    loop = asyncio.create_task(harness.gate.rounds("sweeper", work, harness.stop))
    await eventually(lambda: work.rounds == 4)
    gaps = [later - earlier for earlier, later in zip(work.begun, work.begun[1:], strict=False)]
    assert gaps[2] >= 0.2
    assert max(gaps[:2]) < gaps[2]
    assert harness.health.report()["parts"]["sweeper"] == {"state": "ready"}
    harness.stop.set()
    await asyncio.wait_for(loop, 5)


async def test_no_round_begins_while_the_gate_is_closed() -> None:
    harness, work = GateHarness(), Work()  # nobody probes
    loop = asyncio.create_task(harness.gate.rounds("sweeper", work, harness.stop))
    for _ in range(20):
        await asyncio.sleep(0)
    assert work.rounds == 0
    harness.gate.open()
    await eventually(lambda: work.rounds == 1)
    harness.stop.set()
    await asyncio.wait_for(loop, 5)


async def test_a_loop_that_waits_for_the_server_stops() -> None:
    harness, work = GateHarness(), Work()
    loop = asyncio.create_task(harness.gate.rounds("sweeper", work, harness.stop))
    await asyncio.sleep(0)
    harness.stop.set()
    await asyncio.wait_for(loop, 5)
    assert work.rounds == 0


async def test_a_round_under_way_is_finished_before_the_loop_stops(harness: GateHarness) -> None:
    begun, go_on, done = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def work() -> float:
        begun.set()
        await go_on.wait()
        done.set()
        return 0.0

    loop = asyncio.create_task(harness.gate.rounds("sweeper", work, harness.stop))
    await begun.wait()
    harness.stop.set()
    go_on.set()
    await asyncio.wait_for(loop, 5)
    assert done.is_set()


async def test_what_was_woken_for_is_seen_by_the_next_round_at_once(harness: GateHarness) -> None:
    wake = asyncio.Event()
    work = Work(3600.0, 3600.0)
    loop = asyncio.create_task(harness.gate.rounds("sweeper", work, harness.stop, wake=wake))
    await eventually(lambda: work.rounds == 1)
    assert not wake.is_set()
    wake.set()
    await eventually(lambda: work.rounds == 2)
    assert not wake.is_set()
    harness.stop.set()
    await asyncio.wait_for(loop, 5)


async def test_woken_during_a_round_another_follows(harness: GateHarness) -> None:
    wake = asyncio.Event()
    rounds = 0

    async def work() -> float:
        nonlocal rounds
        rounds += 1
        if rounds == 1:
            wake.set()
        return 3600.0

    loop = asyncio.create_task(harness.gate.rounds("sweeper", work, harness.stop, wake=wake))
    await eventually(lambda: rounds == 2)
    harness.stop.set()
    await asyncio.wait_for(loop, 5)


async def test_a_server_that_is_away_closes_the_gate_until_it_is_back_for_the_next_round(
    harness: GateHarness,
) -> None:
    await harness.gate.wait_open()
    harness.server.away = True
    work = Work(DatabaseUnavailable("away"))
    loop = asyncio.create_task(harness.gate.rounds("sweeper", work, harness.stop))
    await eventually(lambda: not harness.gate.is_open)
    probes = len(harness.server.probes)
    await eventually(lambda: len(harness.server.probes) > probes + 1)
    assert work.rounds == 1
    harness.server.away = False
    await eventually(lambda: work.rounds == 2)
    harness.stop.set()
    await asyncio.wait_for(loop, 5)


async def test_a_refused_statement_is_shown_without_its_details_and_tried_again(
    harness: GateHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate_module, "REFUSED", 0.2)
    wake = asyncio.Event()
    wake.set()  # does not shorten the pause after a refusal
    work = Work(refused(), refused())
    loop = asyncio.create_task(harness.gate.rounds("sweeper", work, harness.stop, wake=wake))
    await eventually(lambda: work.rounds == 1)
    wake.set()
    part = harness.health.report()["parts"]["sweeper"]
    assert part == {"state": "degraded", "detail": "PostgreSQL refuses a statement: canceling statement"}
    assert harness.gate.is_open
    await eventually(lambda: work.rounds == 3)
    assert min(later - earlier for earlier, later in zip(work.begun, work.begun[1:], strict=False)) >= 0.2
    assert harness.health.report()["parts"]["sweeper"] == {"state": "ready"}
    harness.stop.set()
    await asyncio.wait_for(loop, 5)


async def test_a_loop_on_which_the_main_work_depends_turns_readiness_red_when_refused(harness: GateHarness) -> None:
    work = Work(refused())
    loop = asyncio.create_task(harness.gate.rounds("outbox table", work, harness.stop, refused="waiting"))
    await eventually(lambda: work.rounds == 1)
    assert not harness.health.ready
    harness.stop.set()  # ends the pause after a refusal, too
    await asyncio.wait_for(loop, 2)


async def test_a_mistake_of_our_own_ends_the_loop(harness: GateHarness) -> None:
    with pytest.raises(KeyError):
        await harness.gate.rounds("sweeper", Work(KeyError("x")), harness.stop)
