"""The pace that is found and kept, on a clock of the test's own, against servers that count in several ways."""

import asyncio
import heapq
from collections.abc import Callable

import pytest

from taskbell_notifier.smtp.pace import FLOOR, LONGEST, Pace, Turn

SESSIONS = 8


class Server:
    """Takes so many mails in each window of so many seconds."""

    def __init__(self, mails: int, window: float) -> None:
        self._mails, self._window = mails, window
        self._number, self._count = -1, 0

    def takes(self, now: float) -> bool:
        number = int(now // self._window)
        if number != self._number:
            self._number, self._count = number, 0
        self._count += 1
        return self._count <= self._mails


class Bucket:
    """A token bucket: holds so many, and gets so many a second."""

    def __init__(self, holds: int, per_second: float) -> None:
        self._holds, self._per_second = holds, per_second
        self._tokens, self._at = float(holds), 0.0

    def takes(self, now: float) -> bool:
        self._tokens = min(self._holds, self._tokens + (now - self._at) * self._per_second)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Clock:
    """Time that passes only if everybody waits."""

    def __init__(self) -> None:
        self.now = 0.0


def handed_over(takes: Callable[[float], bool], mails: int, pace: Pace, clock: Clock) -> tuple[float, int]:
    """Hands mails over, as fast as the pace allows; returns the seconds that it took, and the refusals.

    Each mail takes a twentieth of a second. It is the pool in short: SESSIONS at once, and a refused mail comes again.
    """
    under_way: list[tuple[float, int, Turn, bool]] = []
    left, refusals, begun, last = mails, 0, 0, -1e9
    while left:
        interval = pace.interval
        ready = len(under_way) < SESSIONS and left > len(under_way)
        start = max(clock.now, last + interval)
        if ready and (not under_way or start <= under_way[0][0]):
            clock.now = start
            waited = interval > 0
            last = start
            begun += 1
            heapq.heappush(under_way, (clock.now + 0.05, begun, Turn(pace.epoch, waited=waited), takes(clock.now)))
            continue
        end, _, turn, taken = heapq.heappop(under_way)
        clock.now = max(clock.now, end)
        if taken:
            left -= 1
            pace.taken(turn)
        else:
            refusals += 1
            pace.refused(turn)
    return clock.now, refusals


@pytest.mark.parametrize(
    ("server", "mails", "asked"),
    [
        (Server(3, 1.0), 400, 400 / 3),
        (Server(14, 1.0), 1_000, 1_000 / 14),
        (Server(1, 1.0), 100, 100.0),
        (Server(60, 60.0), 400, 360.0),
        (Server(100, 60.0), 1_000, 600.0),
        (Server(500, 3600.0), 1_200, 2 * 3600.0),
        (Bucket(10, 1.0), 200, 190.0),
        (Bucket(100, 5.0), 1_000, 180.0),
        (Bucket(1, 0.5), 60, 118.0),
    ],
)
def test_all_are_out_within_twice_the_time_that_the_server_asks_for(
    server: Server | Bucket, mails: int, asked: float
) -> None:
    clock = Clock()
    seconds, refusals = handed_over(server.takes, mails, Pace(None, seconds=lambda: clock.now), clock)
    assert seconds <= 2 * asked
    assert refusals <= mails


def test_the_pace_is_kept_for_the_next_mailing() -> None:
    clock, server = Clock(), Server(3, 1.0)
    pace = Pace(None, seconds=lambda: clock.now)
    handed_over(server.takes, 100, pace, clock)
    clock.now += 3600
    _, refusals = handed_over(server.takes, 100, pace, clock)
    assert refusals <= 15


def test_a_server_that_never_throttles_is_never_waited_for() -> None:
    clock = Clock()
    pace = Pace(None, seconds=lambda: clock.now)
    handed_over(lambda _: True, 1_000, pace, clock)
    assert (pace.interval, pace.per_second) == (0.0, None)


def test_a_server_that_throttles_no_more_is_soon_no_limit() -> None:
    clock = Clock()
    pace = Pace(None, seconds=lambda: clock.now)
    handed_over(Server(50, 1.0).takes, 500, pace, clock)
    handed_over(lambda _: True, 2_000, pace, clock)
    assert pace.per_second is None


def test_many_refusals_of_one_moment_count_once() -> None:
    clock = Clock()
    pace = Pace(None, seconds=lambda: clock.now)
    first = Turn(pace.epoch, waited=False)
    for _ in range(8):
        pace.refused(first)
    once = pace.per_second
    pace.refused(first)
    assert pace.per_second == once


def test_a_server_that_takes_nothing_is_asked_once_a_minute_at_last() -> None:
    clock = Clock()
    pace = Pace(None, seconds=lambda: clock.now)
    for _ in range(100):
        pace.refused(Turn(pace.epoch, waited=True))
    assert (pace.per_second, pace.interval) == (FLOOR, LONGEST)
    pace.taken(Turn(pace.epoch, waited=True))
    assert pace.interval < 1 / FLOOR


def test_our_own_limit_holds_however_much_the_server_takes() -> None:
    clock = Clock()
    pace = Pace(2.0, seconds=lambda: clock.now)
    seconds, _ = handed_over(lambda _: True, 21, pace, clock)
    assert seconds >= 10.0


# --- turns, on the event loop


async def settle() -> None:
    """Lets everything run that can run now."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_turns_are_spaced_evenly() -> None:
    pace = Pace(100)
    loop = asyncio.get_running_loop()
    started = loop.time()
    for _ in range(6):
        await pace.turn()
    assert loop.time() - started >= 0.05  # the first at once, five more a hundredth of a second apart


async def test_without_a_rate_nobody_waits() -> None:
    turn = Pace(None).turn()
    try:
        turn.send(None)
    except StopIteration:
        return
    raise AssertionError("waited")


async def test_waits_for_a_turn_can_be_ended() -> None:
    pace = Pace(0.001)
    await pace.turn()
    waiting = [asyncio.ensure_future(pace.turn()) for _ in range(3)]
    await settle()
    pace.dismiss()
    await asyncio.gather(*waiting)


async def test_who_stops_waiting_takes_nobodys_turn() -> None:
    pace = Pace(50)
    await pace.turn()
    first, second = asyncio.ensure_future(pace.turn()), asyncio.ensure_future(pace.turn())
    await settle()
    first.cancel()
    await second
    assert first.cancelled()


async def test_a_pace_that_grows_is_felt_by_who_waits_already() -> None:
    pace = Pace(None)
    for _ in range(30):
        pace.refused(Turn(pace.epoch, waited=True))
    waiting = asyncio.ensure_future(pace.turn())
    await settle()
    assert not waiting.done()
    for _ in range(30):
        pace.taken(Turn(pace.epoch, waited=True))
    await asyncio.wait_for(waiting, 20)
