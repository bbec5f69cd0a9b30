"""Servers that limit how much they take: every mail goes out, no try is used up, and few are refused."""

import asyncio
from collections import Counter

import pytest
from tests.integration.notifier.smtp.pool_harness import OpenHarness
from tests.support.scripted_smtp import Connection, Rule, ScriptedSmtp

from taskbell_notifier.smtp.replies import Stage, Verdict

TOO_FAST = "454 Throttling failure: Maximum sending rate exceeded."


class Limited(ScriptedSmtp):
    """Takes `mails` in each window of `window` seconds, and says TOO_FAST at `at` to all others."""

    def __init__(self, mails: int, window: float, at: str) -> None:
        super().__init__()
        self.refused = 0
        self._mails, self._window, self._at = mails, window, at
        self._begun, self._count = 0.0, 0

    def fitting(self, at: str, connection: Connection, recipients: list[str]) -> Rule | None:
        if at != self._at:
            return None
        now = asyncio.get_running_loop().time()
        if now - self._begun >= self._window:
            self._begun, self._count = now, 0
        self._count += 1
        if self._count <= self._mails:
            return None
        self.refused += 1
        return Rule(at, reply=TOO_FAST)


@pytest.mark.parametrize("at", ["MAIL", "RCPT", "DATA"])
async def test_all_mails_go_out_at_the_pace_that_the_server_takes(at: str, open_harness: OpenHarness) -> None:
    async with Limited(10, 0.5, at) as server:
        harness = await open_harness(server, pool_size=8)
        ended = Counter(it.verdict for it in await asyncio.gather(*(harness.send() for _ in range(60))))
        assert ended == {Verdict.ACCEPTED: 60}
        assert len(server.accepted) == 60
        # Alone, each of 60 mails would be refused until its window has room: hundreds of times.
        assert server.refused < 60
        assert harness.pool.pace.per_second is not None


async def test_a_mail_that_is_throttled_at_the_final_dot_costs_no_try_and_the_pool_slows_down(
    open_harness: OpenHarness,
) -> None:
    async with Limited(10, 0.5, "DOT") as server:
        harness = await open_harness(server, pool_size=8)
        left, rounds = 60, 0
        while left:
            ended = Counter(it.verdict for it in await asyncio.gather(*(harness.send() for _ in range(left))))
            assert set(ended) <= {Verdict.ACCEPTED, Verdict.THROTTLED}
            left, rounds = ended[Verdict.THROTTLED], rounds + 1
        assert len(server.accepted) == 60
        assert server.refused < 60
        assert harness.pool.breaker.status.allows_sending


@pytest.mark.parametrize("at", ["MAIL", "RCPT", "DATA"])
@pytest.mark.parametrize("pipelining", [True, False], ids=["pipelining", "one by one"])
async def test_a_server_that_ends_a_session_after_so_many_mails_is_not_waited_for(
    at: str, pipelining: bool, open_harness: OpenHarness, server: ScriptedSmtp
) -> None:
    server.pipelining = pipelining
    harness = await open_harness(server, pool_size=2)
    for number in range(1, 200):
        server.rule(at, connection=number, after=3, reply="421 4.7.0 mx closing connection", drop=True)
    ended = Counter(it.verdict for it in await asyncio.gather(*(harness.send() for _ in range(30))))
    assert ended == {Verdict.ACCEPTED: 30}
    assert server.opened >= 10
    assert harness.pool.pace.per_second is None


async def test_a_session_that_ends_at_the_final_dot_costs_no_try(
    open_harness: OpenHarness, server: ScriptedSmtp
) -> None:
    harness = await open_harness(server, pool_size=1)
    server.rule("DOT", connection=1, after=3, reply="421 4.3.2 closing", drop=True)
    ended = [await harness.send() for _ in range(5)]
    assert [it.verdict for it in ended] == [Verdict.ACCEPTED] * 3 + [Verdict.THROTTLED, Verdict.ACCEPTED]
    assert ended[3].stage is Stage.MESSAGE
    assert harness.pool.pace.per_second is None


async def test_a_server_that_allows_two_connections_gets_all_mails_over_two(
    open_harness: OpenHarness, server: ScriptedSmtp
) -> None:
    harness = await open_harness(server, pool_size=8)
    assert (await harness.send()).verdict is Verdict.ACCEPTED
    server.rule("CONNECT", after=1, reply="421 4.7.0 Too many connections from your host", drop=True)
    ended = Counter(it.verdict for it in await asyncio.gather(*(harness.send() for _ in range(40))))
    assert ended == {Verdict.ACCEPTED: 40}
    assert harness.pool.breaker.status.allows_sending


async def test_a_mail_that_is_always_throttled_goes_back_to_its_row(
    open_harness: OpenHarness, server: ScriptedSmtp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taskbell_notifier.smtp.pool.THROTTLED_TRIES", 3)
    harness = await open_harness(server, pool_size=1)
    rule = server.rule("RCPT", reply=TOO_FAST)
    assert (await harness.send()).verdict is Verdict.THROTTLED
    assert rule.seen == 3


async def test_a_recipient_who_is_throttled_while_others_are_served_slows_nobody_down_and_counts_a_try(
    open_harness: OpenHarness, server: ScriptedSmtp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taskbell_notifier.smtp.pool.THROTTLED_TRIES", 3)
    harness = await open_harness(server, pool_size=1)
    server.rule("RCPT", reply="450 4.7.1 recipient address rejected: policy restriction", recipient="ana@example.org")
    assert (await harness.send("ana@example.org")).verdict is Verdict.THROTTLED
    for number in range(4):
        assert (await harness.send(f"bob{number}@example.org")).verdict is Verdict.ACCEPTED
    pace = harness.pool.pace.per_second
    assert (await harness.send("ana@example.org")).verdict is Verdict.RETRY
    assert harness.pool.pace.per_second == pace
