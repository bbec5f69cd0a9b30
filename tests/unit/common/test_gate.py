"""A gate before work that needs a server."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from sqlalchemy.exc import DBAPIError
from tests.support.waiting import eventually

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
            raise DatabaseUnavailable("gone fishing")


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
    assert harness.health.report()["parts"]["postgresql"]["detail"] == "gone fishing"

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


def _refused() -> DBAPIError:
    return DBAPIError("SELECT", {}, Exception("canceling statement\nDETAIL: ada@example.org"))


async def test_a_loop_outlives_a_statement_that_is_refused_and_says_so_without_its_details(
    harness: GateHarness,
) -> None:
    await harness.gate.wait_open()
    harness.stop.set()  # so that the pause after a refusal is none
    async with harness.gate.attempt("sweeper", harness.stop):
        raise _refused()
    part = harness.health.report()["parts"]["sweeper"]
    assert part == {"state": "degraded", "detail": "PostgreSQL refuses a statement: canceling statement"}
    assert harness.gate.is_open

    async with harness.gate.attempt("sweeper", harness.stop):
        pass
    assert harness.health.report()["parts"]["sweeper"] == {"state": "ready"}


async def test_a_loop_that_meets_a_server_that_is_away_closes_the_gate(harness: GateHarness) -> None:
    await harness.gate.wait_open()
    harness.server.away = True
    async with harness.gate.attempt("sweeper", harness.stop):
        raise DatabaseUnavailable("gone fishing")
    assert not harness.gate.is_open


async def test_a_mistake_of_our_own_still_ends_the_loop(harness: GateHarness) -> None:
    with pytest.raises(KeyError):
        async with harness.gate.attempt("sweeper", harness.stop):
            raise KeyError
