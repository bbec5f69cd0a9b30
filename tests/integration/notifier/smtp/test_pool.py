"""Sessions that are kept, shared and given up."""

import asyncio
from collections import Counter

import pytest
from tests.integration.notifier.smtp.pool_harness import SILENCE, Marker, OpenHarness, PoolHarness
from tests.support.scripted_smtp import ScriptedSmtp
from tests.support.waiting import eventually

from taskbell_notifier.smtp.envelope import OutgoingMail
from taskbell_notifier.smtp.replies import Loss, Stage, Submission, Verdict
from taskbell_notifier.smtp.session import SmtpSession

TRIES = 3
"""How often the pool hands a throttled mail over before it gives it back, in these tests."""


def verdicts(submissions: list[Submission]) -> Counter[Verdict]:
    return Counter(submission.verdict for submission in submissions)


async def test_one_session_carries_many_mails(harness: PoolHarness) -> None:
    for _ in range(20):
        assert (await harness.send()).verdict is Verdict.ACCEPTED
    assert harness.server.opened == 1
    assert harness.pool.sessions == 1


async def test_sessions_are_opened_only_when_they_are_needed(open_harness: OpenHarness, server: ScriptedSmtp) -> None:
    harness = await open_harness(server, pool_size=8)
    assert server.opened == 0
    for _ in range(5):
        await harness.send()
    assert server.opened == 1


async def test_no_more_sessions_than_the_pool_allows(open_harness: OpenHarness, server: ScriptedSmtp) -> None:
    harness = await open_harness(server, pool_size=3)
    server.rule("DOT", hold=True)
    sending = [asyncio.ensure_future(harness.send()) for _ in range(9)]
    await server.until(lambda: sum(c.messages for c in server.connections) == 3)
    assert harness.pool.sessions == 3
    server.clear()
    assert verdicts(await asyncio.gather(*sending)) == {Verdict.ACCEPTED: 9}
    assert server.opened == 3
    assert sorted(harness.accepted) == sorted(f"<{number}@example.org>" for number in range(1, 10))


async def test_who_waits_longest_gets_the_next_session(harness: PoolHarness) -> None:
    harness.server.rule("DOT", hold=True, times=1)
    sending = []
    for _ in range(10):
        sending.append(asyncio.ensure_future(harness.send()))
        await asyncio.sleep(0)
    await harness.server.until(lambda: sum(c.messages for c in harness.server.connections) == 1)
    harness.server.release()
    await asyncio.gather(*sending)
    assert harness.accepted == [f"<{number}@example.org>" for number in range(1, 11)]


async def test_a_session_is_worn_after_a_hundred_mails(harness: PoolHarness) -> None:
    for _ in range(201):
        assert (await harness.send()).verdict is Verdict.ACCEPTED
    assert Counter(message.connection for message in harness.server.accepted) == {1: 100, 2: 100, 3: 1}
    assert harness.notes.closed == ["worn", "worn"]
    await harness.server.until(lambda: harness.server.connections[1].closed)
    assert harness.server.connections[0].verbs[-1] == "QUIT"


async def test_an_idle_session_says_farewell(open_harness: OpenHarness, server: ScriptedSmtp) -> None:
    harness = await open_harness(server, idle_seconds=0.1)
    await harness.send()
    await server.until(lambda: server.connections[0].closed)
    assert server.connections[0].verbs[-1] == "QUIT"
    assert harness.notes.closed == ["idle"]
    assert harness.pool.sessions == 0
    assert (await harness.send()).verdict is Verdict.ACCEPTED


@pytest.mark.parametrize("farewell", ["421 4.4.2 idle for too long", "421-4.4.2 idle\r\n421 4.4.2 too long", None])
async def test_a_session_that_the_server_ended_is_not_used_for_the_next_mail(
    farewell: str | None, harness: PoolHarness
) -> None:
    await harness.send()
    if farewell is None:
        harness.server.drop_all()
    else:
        harness.server.say_to_all(farewell, close=True)
    marker = Marker()
    submission = await harness.send(before_data=marker)
    assert submission.verdict is Verdict.ACCEPTED
    assert marker.calls == 1
    assert harness.server.opened == 2


async def test_a_session_on_which_the_server_said_something_unasked_is_not_used(harness: PoolHarness) -> None:
    await harness.send()
    harness.server.say_to_all("250 2.0.0 by the way")
    await eventually(lambda: not harness.pool._idle._sessions[0].conversation.is_quiet)
    assert (await harness.send()).verdict is Verdict.ACCEPTED
    assert harness.server.opened == 2
    assert harness.notes.closed == ["lost"]


@pytest.mark.parametrize("answer", [{"drop": True}, {"reply": "421 4.7.0 enough for this session", "drop": True}])
@pytest.mark.parametrize("pipelining", [True, False])
async def test_a_kept_session_that_ends_as_the_mail_is_begun_is_replaced_once(
    answer: dict[str, object], pipelining: bool, harness: PoolHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taskbell_notifier.smtp.pool.THROTTLED_TRIES", TRIES)
    harness.server.pipelining = pipelining
    await harness.send()
    harness.server.rule("MAIL", connection=1, **answer)
    marker = Marker()
    assert (await harness.send(before_data=marker)).verdict is Verdict.ACCEPTED
    assert marker.calls == 1
    assert harness.server.opened == 2
    harness.server.rule("MAIL", **answer)
    ended = (await harness.send()).verdict
    if "reply" in answer:
        assert (ended, harness.server.opened) == (Verdict.THROTTLED, 2 + TRIES)
    else:
        assert (ended, harness.server.opened) == (Verdict.RETRY, 3)


async def test_a_new_session_that_is_lost_at_once_is_not_replaced(harness: PoolHarness) -> None:
    harness.server.rule("MAIL", drop=True)
    submission = await harness.send()
    assert (submission.verdict, submission.loss) == (Verdict.RETRY, Loss.DROPPED)
    assert harness.server.opened == 1


async def test_one_bad_recipient_among_many_harms_nobody_else(open_harness: OpenHarness, server: ScriptedSmtp) -> None:
    harness = await open_harness(server, pool_size=4)
    server.rule("RCPT", reply="550 5.1.1 unknown", recipient="bad@example.org")
    recipients = [f"user{number}@example.org" for number in range(40)]
    recipients[17] = "bad@example.org"
    submissions = await asyncio.gather(*(harness.send(recipient) for recipient in recipients))
    assert [s.verdict for s in submissions].index(Verdict.FAILED) == 17
    assert verdicts(submissions) == {Verdict.ACCEPTED: 39, Verdict.FAILED: 1}
    assert submissions[17].suppress
    assert server.opened == 4


async def test_addresses_that_are_none_never_reach_the_server(harness: PoolHarness) -> None:
    submission = await harness.send("bob@example.org>\r\nRCPT TO:<eve@example.org")
    assert (submission.verdict, submission.text) == (Verdict.FAILED, "no valid address")
    assert harness.server.opened == 0
    assert harness.notes.submissions == [submission]


async def test_a_rate_holds_over_all_sessions(open_harness: OpenHarness, server: ScriptedSmtp) -> None:
    harness = await open_harness(server, pool_size=4, rate_per_second=50.0)
    loop = asyncio.get_running_loop()
    started = loop.time()
    await asyncio.gather(*(harness.send() for _ in range(11)))
    assert loop.time() - started >= 0.2  # the first at once, ten more 20 ms apart each
    assert len(server.accepted) == 11


async def test_a_server_that_takes_fewer_sessions_is_served_with_those(
    open_harness: OpenHarness, server: ScriptedSmtp
) -> None:
    harness = await open_harness(server, pool_size=4)
    server.rule("CONNECT", reply="421 4.7.0 too many connections", drop=True, after=1)
    submissions = await asyncio.gather(*(harness.send() for _ in range(20)))
    late = await asyncio.gather(*(harness.send() for _ in range(20)))
    assert verdicts(late) == {Verdict.ACCEPTED: 20}
    assert verdicts(submissions)[Verdict.SERVER_FAULT] <= 3  # refused while the one session was being opened
    assert server.opened <= 7  # and not one refused connection for every mail
    assert harness.pool.breaker.status.allows_sending


async def test_cancelled_while_it_waits_it_takes_no_place(harness: PoolHarness) -> None:
    harness.server.rule("DOT", hold=True, times=1)
    first = asyncio.ensure_future(harness.send())
    await harness.server.until(lambda: any(c.messages for c in harness.server.connections))
    waiting = asyncio.ensure_future(harness.send())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait({waiting})
    harness.server.release()
    assert (await first).verdict is Verdict.ACCEPTED
    assert (await harness.send()).verdict is Verdict.ACCEPTED
    assert harness.accepted == ["<1@example.org>", "<3@example.org>"]
    assert len(harness.notes.submissions) == 2  # what was not begun is not reported


async def test_cancelled_while_its_session_is_opened_it_leaves_no_connection(
    open_harness: OpenHarness, server: ScriptedSmtp
) -> None:
    harness = await open_harness(server, pool_size=1)
    server.rule("EHLO", hold=True, times=1)
    sending = asyncio.ensure_future(harness.send())
    await server.until(lambda: any("EHLO" in c.verbs for c in server.connections))
    sending.cancel()
    await asyncio.wait({sending})
    assert sending.cancelled()
    await server.until(lambda: not server.open_connections)
    assert (await harness.send()).verdict is Verdict.ACCEPTED


async def test_the_observer_learns_of_sessions_and_submissions(harness: PoolHarness) -> None:
    accepted = await harness.send()
    harness.server.rule("MAIL", drop=True)
    harness.server.drop_all()
    await harness.server.until(lambda: not harness.server.open_connections)
    lost = await harness.send()
    assert harness.notes.opened == 2
    assert harness.notes.closed == ["lost", "lost"]
    assert harness.notes.submissions == [accepted, lost]
    assert accepted.reason == "message: 250 2.0.0 taken"


async def test_a_check_opens_a_session_and_sends_nothing(harness: PoolHarness) -> None:
    assert await harness.pool.check() is None
    await harness.server.until(lambda: harness.server.connections[0].closed)
    assert harness.server.connections[0].verbs == ["EHLO", "QUIT"]
    harness.server.rule("EHLO", reply="451 4.3.0 later")
    fault = await harness.pool.check()
    assert fault is not None
    assert (fault.verdict, fault.stage) == (Verdict.SERVER_FAULT, Stage.EHLO)


async def test_an_envelope_is_submitted_as_it_is(harness: PoolHarness) -> None:
    envelope = OutgoingMail("taskbell@example.org", "bob@example.org", b"Message-ID: <x@example.org>\r\n\r\n")
    assert (await harness.pool.submit(envelope, Marker())).verdict is Verdict.ACCEPTED
    taken = harness.server.accepted[0]
    assert (taken.sender, taken.recipients, taken.message) == (
        "taskbell@example.org",
        ("bob@example.org",),
        envelope.message,
    )


async def test_closing_waits_for_what_was_begun_and_takes_nothing_new(harness: PoolHarness) -> None:
    harness.server.rule("DOT", hold=True)
    begun = asyncio.ensure_future(harness.send())
    await harness.server.until(lambda: any(c.messages for c in harness.server.connections))
    waiting = asyncio.ensure_future(harness.send())
    await asyncio.sleep(0)
    closing = asyncio.ensure_future(harness.pool.close(60))
    assert (await waiting).verdict is Verdict.PAUSED
    assert (await harness.send()).verdict is Verdict.PAUSED
    assert not closing.done()
    harness.server.clear()
    assert (await begun).verdict is Verdict.ACCEPTED
    assert await closing == 0
    await harness.server.until(lambda: not harness.server.open_connections)
    assert harness.server.connections[0].verbs[-1] == "QUIT"
    assert harness.server.opened == 1


async def test_when_the_grace_is_over_the_message_is_left_unknown_and_counted(
    open_harness: OpenHarness, server: ScriptedSmtp
) -> None:
    harness = await open_harness(server, pool_size=2)
    server.rule("DOT", hold=True, connection=1)
    server.rule("RCPT", hold=True, connection=2)
    in_data = asyncio.ensure_future(harness.send())
    await server.until(lambda: any(c.messages for c in server.connections))
    in_envelope = asyncio.ensure_future(harness.send())
    await server.until(lambda: any("RCPT" in c.verbs for c in server.connections[1:]))
    assert await harness.pool.close(0.05) == 1
    unknown, not_sent = await asyncio.gather(in_data, in_envelope)
    assert (unknown.verdict, unknown.reason) == (Verdict.UNKNOWN, "message: left before the reply")
    assert (not_sent.verdict, not_sent.stage) == (Verdict.NOT_SENT, Stage.RCPT)
    await server.until(lambda: not server.open_connections)


async def test_closing_does_not_wait_for_a_server_that_does_not_answer_the_door(
    open_harness: OpenHarness, server: ScriptedSmtp
) -> None:
    harness = await open_harness(server)
    server.rule("CONNECT", hold=True)
    sending = asyncio.ensure_future(harness.send())
    await server.until(lambda: server.opened == 1)
    assert await harness.pool.close(60) == 0
    assert (await sending).verdict is Verdict.PAUSED
    await server.until(lambda: not server.open_connections)


async def test_a_session_that_is_opened_just_as_the_pool_closes_carries_nothing(
    open_harness: OpenHarness, server: ScriptedSmtp, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = await open_harness(server)
    opener = harness.pool._opener
    known, closing = opener.open, list[asyncio.Task[int]]()

    async def open_and_close() -> SmtpSession | Submission:
        opened = await known()
        closing.append(asyncio.create_task(harness.pool.close(60)))
        return opened

    monkeypatch.setattr(opener, "open", open_and_close)
    assert (await harness.send()).verdict is Verdict.PAUSED
    assert await closing[0] == 0
    await server.until(lambda: not server.open_connections)
    assert server.connections[0].verbs == ["EHLO"]


async def test_closing_is_not_held_up_by_a_marker_that_never_comes(
    open_harness: OpenHarness, server: ScriptedSmtp
) -> None:
    harness = await open_harness(server)
    asked, free = asyncio.Event(), asyncio.Event()

    async def commit() -> bool:
        asked.set()
        await free.wait()
        return True

    sending = asyncio.ensure_future(harness.send(before_data=commit))
    await asked.wait()
    assert await harness.pool.close(0.05) == 0
    free.set()
    submission = await sending
    assert submission.verdict is Verdict.NOT_SENT
    assert server.connections[0].received.endswith(b"DATA\r\n")
    assert server.accepted == []


async def test_closed_twice_it_is_closed(harness: PoolHarness) -> None:
    await harness.send()
    assert await harness.pool.close(1) == 0
    assert await harness.pool.close(1) == 0
    assert harness.pool.sessions == 0


async def test_silence_at_the_reset_does_not_lose_the_verdict(open_harness: OpenHarness, server: ScriptedSmtp) -> None:
    harness = await open_harness(server, timeout=SILENCE)
    server.rule("RCPT", reply="550 5.1.1 unknown")
    server.rule("RSET", hold=True)
    assert (await harness.send()).verdict is Verdict.FAILED
