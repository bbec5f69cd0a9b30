"""A server that is down, or that somebody has to mend a setting for: sending pauses and comes back by itself."""

import asyncio
from collections import Counter

import pytest
from tests.integration.notifier.smtp.pool_harness import Marker, OpenHarness, PoolHarness
from tests.support.scripted_smtp import ScriptedSmtp
from tests.support.waiting import eventually

from taskbell_notifier.smtp.breaker import BreakerState
from taskbell_notifier.smtp.envelope import OutgoingMail
from taskbell_notifier.smtp.replies import Stage, Submission, Verdict


async def test_ten_server_faults_pause_sending_and_a_server_that_is_back_resumes_it(
    open_harness: OpenHarness, server: ScriptedSmtp
) -> None:
    harness = await open_harness(server, pool_size=4)
    await server.stop()
    marker = Marker()
    submissions = [await harness.send(before_data=marker) for _ in range(12)]
    assert [s.verdict for s in submissions] == [Verdict.SERVER_FAULT] * 10 + [Verdict.PAUSED] * 2
    assert harness.pool.breaker.state is BreakerState.SERVER_FAULT
    assert harness.pool.breaker.reason.startswith("connect: ")
    assert submissions[-1].reason == harness.pool.breaker.reason
    assert marker.calls == 0
    await server.start()
    await eventually(lambda: harness.pool.breaker.status.allows_sending)
    for _ in range(3):
        assert (await harness.send()).verdict is Verdict.ACCEPTED
    assert [status.state for status in harness.notes.statuses] == [
        BreakerState.SERVER_FAULT,
        BreakerState.RESUMING,
        BreakerState.SENDING,
    ]


async def test_addresses_that_are_none_do_not_hide_that_the_server_is_down(
    open_harness: OpenHarness, server: ScriptedSmtp
) -> None:
    harness = await open_harness(server)
    await server.stop()
    for _ in range(10):
        assert (await harness.send("nobody")).verdict is Verdict.FAILED
        assert (await harness.send()).verdict is Verdict.SERVER_FAULT
    assert harness.pool.breaker.state is BreakerState.SERVER_FAULT


async def test_a_sender_that_is_no_address_pauses_sending(open_harness: OpenHarness, server: ScriptedSmtp) -> None:
    harness = await open_harness(server)
    nameless = OutgoingMail("Taskbell", "bob@example.org", b"Subject: x\r\n\r\n")
    assert (await harness.pool.submit(nameless, Marker())).verdict is Verdict.CONFIGURATION_FAULT
    assert "MAIL_DEFAULT_SENDER" in harness.pool.breaker.reason
    await server.until(lambda: server.opened >= 2)  # probes succeed but for the sender
    assert harness.pool.breaker.state is BreakerState.CONFIGURATION_FAULT
    assert all(b"MAIL" not in connection.received for connection in server.connections)


async def test_who_waits_for_a_session_is_told_of_the_pause_at_once(
    open_harness: OpenHarness, server: ScriptedSmtp
) -> None:
    harness = await open_harness(server, pool_size=2)
    server.rule("CONNECT", reply="421 4.3.2 down", drop=True)
    submissions = await asyncio.gather(*(harness.send() for _ in range(100)))
    verdicts = Counter(submission.verdict for submission in submissions)
    assert 10 <= verdicts[Verdict.SERVER_FAULT] <= 11  # the tenth pauses; one more may be on its way then
    assert verdicts[Verdict.PAUSED] == 100 - verdicts[Verdict.SERVER_FAULT]


async def test_who_waits_for_the_rate_is_told_of_the_pause_at_once(
    open_harness: OpenHarness, server: ScriptedSmtp
) -> None:
    harness = await open_harness(server, pool_size=3, rate_per_second=0.001)
    server.rule("MAIL", reply="550 5.7.1 not you", hold=True)
    sending = [asyncio.ensure_future(harness.send()) for _ in range(5)]
    await server.until(lambda: any("MAIL" in c.verbs for c in server.connections))
    server.release()
    verdicts = [submission.verdict for submission in await asyncio.gather(*sending)]
    assert verdicts == [Verdict.CONFIGURATION_FAULT] + [Verdict.PAUSED] * 4


async def test_who_was_given_a_place_just_before_the_pause_does_not_wait_for_the_rate(
    open_harness: OpenHarness, server: ScriptedSmtp
) -> None:
    harness = await open_harness(server, pool_size=1, rate_per_second=0.001)
    assert (await harness.send()).verdict is Verdict.ACCEPTED
    paced, next_one = asyncio.ensure_future(harness.send()), asyncio.ensure_future(harness.send())
    await asyncio.sleep(0)
    paced.cancel()
    await asyncio.sleep(0)  # its place has been given on, and nobody has taken it yet
    harness.pool.breaker.record(Submission(Verdict.CONFIGURATION_FAULT, Stage.AUTH, 535))
    assert (await next_one).verdict is Verdict.PAUSED


async def test_who_waits_is_told_of_the_pause_although_no_place_becomes_free(
    open_harness: OpenHarness, server: ScriptedSmtp
) -> None:
    harness = await open_harness(server, pool_size=3)
    server.rule("DOT", hold=True, recipient="ann@example.org")
    at_dot = asyncio.ensure_future(harness.send("ann@example.org"))
    await server.until(lambda: messages(server) == 1)
    at_mail = server.rule("MAIL", hold=True, reply="550 5.7.1 not you", connection=2)
    slow = asyncio.ensure_future(harness.send())
    await server.until(lambda: at_mail.seen == 1)
    refused = server.rule("MAIL", reply="550 5.7.1 not you", connection=3)
    assert (await harness.send()).verdict is Verdict.CONFIGURATION_FAULT
    server.rules.remove(refused)
    await eventually(lambda: harness.pool.breaker.status.allows_sending)
    waiting = asyncio.ensure_future(harness.send())  # two are on their way, and one session may be used
    await asyncio.sleep(0)
    server.release(at_mail)
    assert (await slow).verdict is Verdict.CONFIGURATION_FAULT
    assert (await waiting).verdict is Verdict.PAUSED
    server.clear()
    assert (await at_dot).verdict is Verdict.ACCEPTED


async def test_transactions_on_their_way_finish_when_sending_pauses(
    open_harness: OpenHarness, server: ScriptedSmtp
) -> None:
    harness = await open_harness(server, pool_size=2)
    server.rule("DOT", hold=True, connection=1)
    begun = asyncio.ensure_future(harness.send())
    await server.until(lambda: any(c.messages for c in server.connections))
    server.rule("MAIL", reply="550 5.7.1 sender not allowed", times=1)
    assert (await harness.send()).verdict is Verdict.CONFIGURATION_FAULT
    assert (await harness.send()).verdict is Verdict.PAUSED
    server.release()
    assert (await begun).verdict is Verdict.ACCEPTED


async def test_it_resumes_with_one_session_then_two_then_four(open_harness: OpenHarness, server: ScriptedSmtp) -> None:
    harness = await open_harness(server, pool_size=4)
    server.rule("MAIL", reply="550 5.7.1 not you", times=1)
    assert (await harness.send()).verdict is Verdict.CONFIGURATION_FAULT
    await eventually(lambda: harness.pool.breaker.status.allows_sending)
    server.rule("DOT", hold=True)
    sending = [asyncio.ensure_future(harness.send()) for _ in range(20)]
    in_hand = []
    for taken, width in enumerate((1, 2, 4)):
        await server.until(lambda: messages(server) - len(server.accepted) == width)  # noqa: B023 - awaited at once
        in_hand.append(harness.pool.breaker.allowance)
        assert len(server.accepted) == sum((1, 2, 4)[:taken])
        server.release()
        await server.until(lambda: len(server.accepted) == sum((1, 2, 4)[: taken + 1]))  # noqa: B023
    assert in_hand == [1, 2, 4]
    server.clear()
    assert {s.verdict for s in await asyncio.gather(*sending)} == {Verdict.ACCEPTED}
    assert harness.pool.breaker.state is BreakerState.SENDING


def messages(server: ScriptedSmtp) -> int:
    return sum(connection.messages for connection in server.connections)


async def test_a_sender_that_is_refused_is_asked_about_until_it_is_taken(
    open_harness: OpenHarness, server: ScriptedSmtp
) -> None:
    harness = await open_harness(server)
    rule = server.rule("MAIL", reply="553 5.7.1 you may not send as taskbell@example.org")
    refused = await harness.send()
    assert (refused.verdict, refused.stage) == (Verdict.CONFIGURATION_FAULT, Stage.MAIL)
    assert refused.reason == "MAIL: 553 5.7.1 you may not send as <address>"
    await server.until(lambda: rule.seen >= 4)  # probes go as far as MAIL
    assert harness.pool.breaker.state is BreakerState.CONFIGURATION_FAULT
    assert len(harness.notes.statuses) == 1  # and nobody is told that it was mended
    server.rules.remove(rule)
    await eventually(lambda: harness.pool.breaker.status.allows_sending)
    assert (await harness.send()).verdict is Verdict.ACCEPTED
    assert len(server.accepted) == 1


async def test_a_probe_whose_connection_is_lost_at_mail_goes_on_probing(
    open_harness: OpenHarness, server: ScriptedSmtp
) -> None:
    harness = await open_harness(server)
    server.rule("MAIL", reply="553 5.7.1 no", times=1)
    rule = server.rule("MAIL", drop=True)
    assert (await harness.send()).verdict is Verdict.CONFIGURATION_FAULT
    await server.until(lambda: rule.seen >= 3)
    assert harness.pool.breaker.state is BreakerState.SERVER_FAULT
    server.rules.remove(rule)
    await eventually(lambda: harness.pool.breaker.status.allows_sending)
    assert (await harness.send()).verdict is Verdict.ACCEPTED


async def test_the_session_of_a_probe_carries_the_next_mail(open_harness: OpenHarness, server: ScriptedSmtp) -> None:
    harness = await open_harness(server)
    server.rule("CONNECT", drop=True, times=10)
    for _ in range(10):
        assert (await harness.send()).verdict is Verdict.SERVER_FAULT
    await eventually(lambda: harness.pool.breaker.status.allows_sending)
    assert (await harness.send()).verdict is Verdict.ACCEPTED
    assert server.opened == 11


async def test_closing_ends_a_probe_that_is_being_connected(open_harness: OpenHarness, server: ScriptedSmtp) -> None:
    harness = await open_harness(server)
    server.rule("EHLO", hold=True, after=10)
    server.rule("EHLO", reply="451 4.3.0 later")
    for _ in range(10):
        await harness.send()
    await server.until(lambda: server.opened == 11)
    await check_that_closing_ends_the_probing(harness, server)


async def test_closing_ends_a_probe_that_asks_about_the_sender(open_harness: OpenHarness, server: ScriptedSmtp) -> None:
    harness = await open_harness(server)
    held = server.rule("MAIL", hold=True, after=1)
    server.rule("MAIL", reply="553 5.7.1 no")
    await harness.send()
    await server.until(lambda: held.seen == 2)
    await check_that_closing_ends_the_probing(harness, server)


async def check_that_closing_ends_the_probing(harness: PoolHarness, server: ScriptedSmtp) -> None:
    await harness.pool.close(60)
    await server.until(lambda: not server.open_connections)
    assert [task for task in asyncio.all_tasks() if "_probe_until_it_works" in repr(task.get_coro())] == []
    assert (await harness.send()).verdict is Verdict.PAUSED


@pytest.mark.parametrize("times", [1, 3])
async def test_nothing_is_used_up_by_any_number_of_mails_while_sending_is_paused(
    times: int, open_harness: OpenHarness, server: ScriptedSmtp
) -> None:
    harness = await open_harness(server)
    server.rule("MAIL", reply="550 5.7.1 no")
    assert (await harness.send()).verdict is Verdict.CONFIGURATION_FAULT
    submissions: list[Submission] = [await harness.send() for _ in range(100 * times)]
    assert {s.verdict.is_try for s in submissions} == {False}
