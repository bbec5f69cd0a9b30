"""Which of the idle sessions is taken, and which goes."""

import asyncio
from typing import Any, cast

from taskbell_notifier.smtp.admission import IdleSessions
from taskbell_notifier.smtp.session import SmtpSession


class Line:
    """A connection, as far as a shelf can see it."""

    def __init__(self) -> None:
        self.is_quiet = True
        self.ended = ""

    def bid_farewell(self) -> None:
        self.ended = "farewell"

    def abort(self) -> None:
        self.ended = "aborted"


class Idle:
    """A session, as far as a shelf can see it."""

    def __init__(self) -> None:
        self.line = Line()
        self.idle_since = 0.0


def shelf_with(*sessions: Idle) -> tuple[IdleSessions, list[str]]:
    closed: list[str] = []
    shelf = IdleSessions(60, closed.append)
    for session in sessions:
        shelf.put(cast(SmtpSession, session))
    return shelf, closed


def let_age(session: Idle, seconds: float) -> None:
    session.idle_since -= seconds


async def test_the_last_one_put_is_taken_first() -> None:
    first, second = Idle(), Idle()
    shelf, _ = shelf_with(first, second)
    taken: list[object] = [shelf.take(), shelf.take(), shelf.take()]
    assert taken == [second, first, None]


async def test_one_that_the_server_ended_or_spoke_on_is_passed_over() -> None:
    first, second = Idle(), Idle()
    shelf, closed = shelf_with(first, second)
    second.line.is_quiet = False
    taken: Any = shelf.take()
    assert taken is first
    assert second.line.ended == "aborted"
    assert closed == ["lost"]


async def test_those_idle_for_too_long_go_and_the_others_stay() -> None:
    old, young = Idle(), Idle()
    shelf, closed = shelf_with(old, young)
    let_age(old, 61)
    let_age(young, 30)
    shelf._expire()
    assert (old.line.ended, young.line.ended) == ("farewell", "")
    assert closed == ["idle"]
    assert len(shelf) == 1
    shelf.clear()


async def test_one_that_is_used_does_not_grow_old() -> None:
    session = Idle()
    shelf, closed = shelf_with(session)
    let_age(session, 61)
    taken = shelf.take()
    assert taken is not None
    shelf.put(taken)
    shelf._expire()
    assert closed == []
    left: list[object] = [*shelf.clear()]
    assert left == [session]


async def test_nothing_is_left_to_do_when_the_shelf_is_cleared() -> None:
    shelf, closed = shelf_with(Idle())
    shelf.clear()
    await asyncio.sleep(0)
    shelf._expire()
    assert len(shelf) == 0
    assert closed == []
