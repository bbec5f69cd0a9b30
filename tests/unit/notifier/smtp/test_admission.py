"""Who may use a session now, which of the idle sessions is taken, and which is ended."""

import asyncio
from typing import Any, cast

from taskbell_notifier.smtp.admission import IdleSessions, Places
from taskbell_notifier.smtp.session import SmtpSession


async def settle() -> None:
    """Lets everything run that can run now."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_who_waits_longest_enters_first() -> None:
    places, entered = Places(2), list[int]()

    async def visit(number: int) -> None:
        assert await places.enter()
        entered.append(number)

    visits = [asyncio.ensure_future(visit(number)) for number in range(5)]
    await settle()
    assert entered == [0, 1]
    places.leave()
    await settle()
    assert entered == [0, 1, 2]
    places.leave()
    places.leave()
    await asyncio.gather(*visits)
    assert entered == [0, 1, 2, 3, 4]


async def test_a_newcomer_does_not_overtake_who_waits() -> None:
    places, entered = Places(1), list[str]()
    assert await places.enter()

    async def visit(name: str) -> None:
        assert await places.enter()
        entered.append(name)

    first = asyncio.ensure_future(visit("first"))
    await settle()
    places.leave()  # the place is given to the first, who has not yet run
    second = asyncio.ensure_future(visit("second"))
    await settle()
    assert entered == ["first"]
    places.leave()
    await asyncio.gather(first, second)


async def test_who_stops_waiting_leaves_the_queue() -> None:
    places = Places(1)
    assert await places.enter()
    waiting = asyncio.ensure_future(places.enter())
    await settle()
    waiting.cancel()
    await asyncio.wait({waiting})
    places.leave()
    assert await places.enter()


async def test_who_stops_waiting_just_as_a_place_becomes_free_does_not_keep_it() -> None:
    places = Places(1)
    assert await places.enter()
    waiting, next_one = asyncio.ensure_future(places.enter()), asyncio.ensure_future(places.enter())
    await settle()
    waiting.cancel()
    places.leave()
    await asyncio.wait({waiting, next_one})
    assert waiting.cancelled()
    assert next_one.result()


async def test_a_place_given_to_somebody_who_is_cancelled_goes_to_the_next() -> None:
    places = Places(1)
    assert await places.enter()
    unlucky, next_one = asyncio.ensure_future(places.enter()), asyncio.ensure_future(places.enter())
    await settle()
    places.leave()
    unlucky.cancel()  # after the place was given, before it was taken
    await asyncio.wait({unlucky, next_one}, return_when=asyncio.ALL_COMPLETED)
    assert unlucky.cancelled()
    assert next_one.result()


async def test_everybody_who_waits_can_be_sent_away() -> None:
    places = Places(1)
    assert await places.enter()
    waiting = [asyncio.ensure_future(places.enter()) for _ in range(3)]
    await settle()
    places.dismiss()
    assert await asyncio.gather(*waiting) == [False, False, False]
    places.leave()
    assert await places.enter()


async def test_sent_away_and_cancelled_at_once_takes_no_place() -> None:
    places = Places(1)
    assert await places.enter()
    waiting = asyncio.ensure_future(places.enter())
    await settle()
    places.dismiss()
    waiting.cancel()
    await asyncio.wait({waiting})
    places.leave()
    assert await places.enter()
    assert not place_is_free(places)


def place_is_free(places: Places) -> bool:
    """Would somebody enter at once?"""
    visit = places.enter()
    try:
        visit.send(None)
    except StopIteration:
        return True
    visit.close()
    return False


async def test_fewer_places_let_those_inside_stay_and_more_let_others_in() -> None:
    places = Places(3)
    for _ in range(3):
        assert await places.enter()
    places.resize(1)
    waiting = asyncio.ensure_future(places.enter())
    places.leave()
    places.leave()
    await settle()
    assert not waiting.done()
    places.resize(2)
    assert await waiting


# --- idle sessions


class Connection:
    """A connection, as far as the idle sessions look at it."""

    def __init__(self) -> None:
        self.is_quiet = True
        self.ended = ""

    def quit(self) -> None:
        self.ended = "farewell"

    def abort(self) -> None:
        self.ended = "aborted"


class Idle:
    """A session, as far as the idle sessions look at it."""

    def __init__(self) -> None:
        self.conversation = Connection()
        self.idle_since = 0.0


def with_sessions(*sessions: Idle) -> tuple[IdleSessions, list[str]]:
    closed: list[str] = []
    idle_sessions = IdleSessions(60, closed.append)
    for session in sessions:
        idle_sessions.put(cast(SmtpSession, session))
    return idle_sessions, closed


def let_age(session: Idle, seconds: float) -> None:
    session.idle_since -= seconds


async def test_the_last_one_put_is_taken_first() -> None:
    first, second = Idle(), Idle()
    idle_sessions, _ = with_sessions(first, second)
    taken: list[object] = [idle_sessions.take(), idle_sessions.take(), idle_sessions.take()]
    assert taken == [second, first, None]


async def test_one_that_the_server_ended_or_spoke_on_is_passed_over() -> None:
    first, second = Idle(), Idle()
    idle_sessions, closed = with_sessions(first, second)
    second.conversation.is_quiet = False
    taken: Any = idle_sessions.take()
    assert taken is first
    assert second.conversation.ended == "aborted"
    assert closed == ["lost"]


async def test_those_idle_for_too_long_go_and_the_others_stay() -> None:
    old, young = Idle(), Idle()
    idle_sessions, closed = with_sessions(old, young)
    let_age(old, 61)
    let_age(young, 30)
    idle_sessions._expire()
    assert (old.conversation.ended, young.conversation.ended) == ("farewell", "")
    assert closed == ["idle"]
    assert len(idle_sessions) == 1
    idle_sessions.clear()


async def test_one_that_is_used_does_not_grow_old() -> None:
    session = Idle()
    idle_sessions, closed = with_sessions(session)
    let_age(session, 61)
    taken = idle_sessions.take()
    assert taken is not None
    idle_sessions.put(taken)
    idle_sessions._expire()
    assert closed == []
    left: list[object] = [*idle_sessions.clear()]
    assert left == [session]


async def test_nothing_is_left_to_do_when_the_idle_sessions_are_cleared() -> None:
    idle_sessions, closed = with_sessions(Idle())
    idle_sessions.clear()
    await asyncio.sleep(0)
    idle_sessions._expire()
    assert len(idle_sessions) == 0
    assert closed == []
