"""Every verb, and every way in which a server can fail to do what it is asked, over real sockets."""

from typing import Any

import pytest
from tests.integration.notifier.smtp.pool_harness import SILENCE, Marker, OpenHarness, PoolHarness
from tests.support.scripted_smtp import Certificate, ScriptedSmtp
from tests.support.waiting import eventually

from taskbell_notifier.smtp.replies import Loss, Stage, Submission, Verdict

SERVER, CONFIGURATION = Verdict.SERVER_FAULT, Verdict.CONFIGURATION_FAULT
RETRY, FAILED, UNKNOWN = Verdict.RETRY, Verdict.FAILED, Verdict.UNKNOWN
REFUSED, THROTTLED = Verdict.REFUSED, Verdict.THROTTLED

OPENING = [
    # point       stage           4xx     5xx            lost
    ("CONNECT", Stage.CONNECT, SERVER, SERVER, SERVER),
    ("EHLO", Stage.EHLO, SERVER, SERVER, SERVER),
    ("STARTTLS", Stage.STARTTLS, SERVER, SERVER, SERVER),
    ("AUTH", Stage.AUTH, SERVER, CONFIGURATION, SERVER),
]
TRANSACTION = [
    ("MAIL", Stage.MAIL, RETRY, CONFIGURATION, RETRY),
    ("RCPT", Stage.RCPT, RETRY, REFUSED, RETRY),
    ("DATA", Stage.DATA, RETRY, REFUSED, RETRY),
    ("DOT", Stage.MESSAGE, RETRY, REFUSED, UNKNOWN),
]
Row = tuple[str, Stage, Verdict, Verdict, Verdict]


async def opening_harness(certificate: Certificate, open_harness: OpenHarness, server: ScriptedSmtp) -> PoolHarness:
    """A pool that takes every step there is: STARTTLS and AUTH too."""
    server.tls, server.certificate = "starttls", certificate
    server.users = {"taskbell": "secret"}
    return await open_harness(
        server,
        pool_size=1,
        timeout=SILENCE,
        use_tls=True,
        ca_file=str(certificate.certificate),
        username="taskbell",
        password="secret",
    )


def check(submission: Submission, stage: Stage, verdict: Verdict, code: int | None) -> None:
    assert (submission.verdict, submission.stage, submission.code) == (verdict, stage, code)


@pytest.mark.parametrize("row", OPENING, ids=lambda row: row[0])
async def test_opening_a_session(
    row: Row, certificate: Certificate, open_harness: OpenHarness, server: ScriptedSmtp
) -> None:
    point, stage, temporary, permanent, lost = row
    harness = await opening_harness(certificate, open_harness, server)
    answers: list[tuple[dict[str, Any], Verdict, int | None]] = [
        ({"reply": "454 4.3.0 later"}, temporary, 454),
        ({"reply": "421 4.3.2 too busy", "drop": True}, temporary, 421),
        ({"reply": "535 5.7.8 no", "drop": True}, permanent, 535),
        ({"drop": True}, lost, None),
        ({"drop": True, "reset": True}, lost, None),
        ({"hold": True}, lost, None),
        ({"reply": "not SMTP at all"}, SERVER, None),
    ]
    for answer, verdict, code in answers:
        server.rule(point, **answer)
        check(await harness.send(), stage, verdict, code)
        assert harness.notes.refusals[-1] == harness.notes.submissions[-1]
        server.clear()
        await eventually(lambda: harness.pool.breaker.status.allows_sending)
        check(await harness.send(), Stage.MESSAGE, Verdict.ACCEPTED, 250)
        server.drop_all()
        await server.until(lambda: not server.open_connections)
    assert len(server.accepted) == len(answers)


@pytest.mark.parametrize("pipelining", [True, False], ids=["pipelining", "one by one"])
@pytest.mark.parametrize("row", TRANSACTION, ids=lambda row: row[0])
async def test_handing_a_mail_over(row: Row, pipelining: bool, open_harness: OpenHarness, server: ScriptedSmtp) -> None:
    point, stage, temporary, permanent, lost = row
    server.pipelining = pipelining
    harness = await open_harness(server, pool_size=1, timeout=SILENCE, data_timeout=SILENCE)
    answers: list[tuple[dict[str, Any], Verdict, int | None]] = [
        ({"reply": "451 4.3.0 later"}, temporary, 451),
        ({"reply": "554 5.7.1 no"}, permanent, 554),
        ({"reply": "554 5.7.1 no", "drop": True}, permanent, 554),
        ({"drop": True}, lost, None),
        ({"drop": True, "reset": True}, lost, None),
        ({"hold": True}, lost, None),
        ({"reply": "199 what?"}, lost, 199),
        ({"reply": "not SMTP at all"}, lost, None),
    ]
    for answer, verdict, code in answers:
        rule = server.rule(point, **answer)
        check(await harness.send(), stage, verdict, code)
        server.rules.remove(rule)
        server.release()
        await eventually(lambda: harness.pool.breaker.status.allows_sending)
        check(await harness.send(), Stage.MESSAGE, Verdict.ACCEPTED, 250)
        assert harness.accepted[-1] == f"<{harness.sent}@example.org>"


async def test_a_server_that_is_not_there_is_a_server_fault(open_harness: OpenHarness, server: ScriptedSmtp) -> None:
    harness = await open_harness(server)
    await server.stop()
    check(await harness.send(), Stage.CONNECT, SERVER, None)


@pytest.mark.parametrize("name", ["no-such-host.invalid", "mail..example.org"])
async def test_a_server_whose_name_leads_nowhere_is_a_fault_at_connect(
    name: str, open_harness: OpenHarness, server: ScriptedSmtp
) -> None:
    harness = await open_harness(server, server=name)
    submission = await harness.send()
    assert submission.stage is Stage.CONNECT
    assert submission.verdict in (SERVER, CONFIGURATION)


@pytest.mark.parametrize("answer", ["552 too large", "554 5.3.4 too large"])
async def test_a_message_too_large_fails_and_the_next_goes_on(answer: str, harness: PoolHarness) -> None:
    harness.server.rule("MAIL", reply=answer, times=1)
    check(await harness.send(), Stage.MAIL, FAILED, int(answer[:3]))
    check(await harness.send(), Stage.MESSAGE, Verdict.ACCEPTED, 250)
    assert harness.server.opened == 1


@pytest.mark.parametrize("stage", ["RCPT", "DATA", "DOT"])
async def test_only_a_recipient_that_does_not_exist_is_suppressed(stage: str, harness: PoolHarness) -> None:
    harness.server.rule(stage, reply="550 5.1.1 <bob@example.org> unknown", times=1)
    submission = await harness.send()
    assert submission.verdict is FAILED
    assert submission.suppress is (stage == "RCPT")
    assert "@" not in submission.reason


@pytest.mark.parametrize(
    ("point", "verdict"),
    [("CONNECT", SERVER), ("EHLO", SERVER), ("MAIL", RETRY), ("RCPT", RETRY), ("DATA", RETRY), ("DOT", UNKNOWN)],
)
async def test_a_reply_that_trickles_in_has_the_same_limit_as_silence(
    point: str, verdict: Verdict, open_harness: OpenHarness, server: ScriptedSmtp
) -> None:
    harness = await open_harness(server, pool_size=1, timeout=SILENCE, data_timeout=SILENCE)
    server.rule(point, reply="250-" + "and so on " * 20 + "\n250 ok", bytes_per_second=20)
    submission = await harness.send()
    assert submission.verdict is verdict
    assert submission.loss is Loss.TIMED_OUT


async def test_a_server_that_stops_reading_in_the_middle_of_a_message_leaves_it_unknown(
    open_harness: OpenHarness, server: ScriptedSmtp
) -> None:
    harness = await open_harness(server, data_timeout=SILENCE)
    server.rule("BODY", hold=True)
    check(await harness.send(body=b"x" * 70 + b"\r\n" * 200_000), Stage.MESSAGE, UNKNOWN, None)
    assert server.accepted == []


@pytest.mark.parametrize("reset", [False, True])
async def test_a_connection_lost_in_the_middle_of_a_message_leaves_it_unknown(
    reset: bool, open_harness: OpenHarness, server: ScriptedSmtp
) -> None:
    harness = await open_harness(server)
    server.rule("BODY", drop=True, reset=reset)
    check(await harness.send(body=b"x\r\n" * 2_000_000), Stage.MESSAGE, UNKNOWN, None)
    assert server.accepted == []


async def test_a_message_that_was_taken_while_the_answer_was_lost_is_unknown(harness: PoolHarness) -> None:
    harness.server.rule("DOT", drop=True, accept=True)
    check(await harness.send(), Stage.MESSAGE, UNKNOWN, None)
    assert harness.accepted == ["<1@example.org>"]


async def test_the_marker_is_not_asked_for_before_the_server_waits_for_the_message(harness: PoolHarness) -> None:
    for verb in ("MAIL", "RCPT", "DATA"):
        marker = Marker()
        harness.server.rule(verb, reply="450 4.2.0 later", times=1)
        assert (await harness.send(before_data=marker)).verdict is RETRY
        assert marker.calls == 0
    marker = Marker()
    assert (await harness.send(before_data=marker)).verdict is Verdict.ACCEPTED
    assert marker.calls == 1
