"""Who may use a session now."""

import asyncio

from taskbell_notifier.smtp.admission import Places, RateLimit


async def settle() -> None:
    """Lets everything run that can run now."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_who_waits_longest_enters_first() -> None:
    gate, entered = Places(2), list[int]()

    async def visit(number: int) -> None:
        assert await gate.enter()
        entered.append(number)

    visits = [asyncio.ensure_future(visit(number)) for number in range(5)]
    await settle()
    assert entered == [0, 1]
    gate.leave()
    await settle()
    assert entered == [0, 1, 2]
    gate.leave()
    gate.leave()
    await asyncio.gather(*visits)
    assert entered == [0, 1, 2, 3, 4]


async def test_a_newcomer_does_not_overtake_who_waits() -> None:
    gate, entered = Places(1), list[str]()
    assert await gate.enter()

    async def visit(name: str) -> None:
        assert await gate.enter()
        entered.append(name)

    first = asyncio.ensure_future(visit("first"))
    await settle()
    gate.leave()  # the place is given to the first, who has not yet run
    second = asyncio.ensure_future(visit("second"))
    await settle()
    assert entered == ["first"]
    gate.leave()
    await asyncio.gather(first, second)


async def test_who_stops_waiting_leaves_the_queue() -> None:
    gate = Places(1)
    assert await gate.enter()
    waiting = asyncio.ensure_future(gate.enter())
    await settle()
    waiting.cancel()
    await asyncio.wait({waiting})
    gate.leave()
    assert await gate.enter()


async def test_who_stops_waiting_just_as_a_place_becomes_free_does_not_keep_it() -> None:
    gate = Places(1)
    assert await gate.enter()
    waiting, next_one = asyncio.ensure_future(gate.enter()), asyncio.ensure_future(gate.enter())
    await settle()
    waiting.cancel()
    gate.leave()
    await asyncio.wait({waiting, next_one})
    assert waiting.cancelled()
    assert next_one.result()


async def test_a_place_given_to_somebody_who_is_cancelled_goes_to_the_next() -> None:
    gate = Places(1)
    assert await gate.enter()
    unlucky, next_one = asyncio.ensure_future(gate.enter()), asyncio.ensure_future(gate.enter())
    await settle()
    gate.leave()
    unlucky.cancel()  # after the place was given, before it was taken
    await asyncio.wait({unlucky, next_one}, return_when=asyncio.ALL_COMPLETED)
    assert unlucky.cancelled()
    assert next_one.result()


async def test_everybody_who_waits_can_be_sent_away() -> None:
    gate = Places(1)
    assert await gate.enter()
    waiting = [asyncio.ensure_future(gate.enter()) for _ in range(3)]
    await settle()
    gate.dismiss()
    assert await asyncio.gather(*waiting) == [False, False, False]
    gate.leave()
    assert await gate.enter()


async def test_sent_away_and_cancelled_at_once_takes_no_place() -> None:
    gate = Places(1)
    assert await gate.enter()
    waiting = asyncio.ensure_future(gate.enter())
    await settle()
    gate.dismiss()
    waiting.cancel()
    await asyncio.wait({waiting})
    gate.leave()
    assert await gate.enter()
    assert not gate_is_free(gate)


def gate_is_free(gate: Places) -> bool:
    """Would somebody enter at once?"""
    visit = gate.enter()
    try:
        visit.send(None)
    except StopIteration:
        return True
    visit.close()
    return False


async def test_fewer_places_let_those_inside_stay_and_more_let_others_in() -> None:
    gate = Places(3)
    for _ in range(3):
        assert await gate.enter()
    gate.resize(1)
    waiting = asyncio.ensure_future(gate.enter())
    gate.leave()
    gate.leave()
    await settle()
    assert not waiting.done()
    gate.resize(2)
    assert await waiting


async def test_turns_are_spaced_evenly() -> None:
    pace = RateLimit(100)
    loop = asyncio.get_running_loop()
    started = loop.time()
    for _ in range(6):
        await pace.turn()
    assert loop.time() - started >= 0.05  # the first at once, five more a hundredth of a second apart


async def test_without_a_rate_nobody_waits() -> None:
    pace = RateLimit(None)
    turn = pace.turn()
    try:
        turn.send(None)
    except StopIteration:
        return
    raise AssertionError("waited")


async def test_waits_for_a_turn_can_be_ended() -> None:
    pace = RateLimit(0.001)
    await pace.turn()
    waiting = [asyncio.ensure_future(pace.turn()) for _ in range(3)]
    await settle()
    pace.dismiss()
    await asyncio.gather(*waiting)
