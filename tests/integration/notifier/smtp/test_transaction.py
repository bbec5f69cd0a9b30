"""One mail over a connection: what is written when, and what the connection is good for afterwards."""

import asyncio
import contextlib

import pytest
from tests.integration.notifier.smtp.pool_harness import Marker, OpenHarness, PoolHarness
from tests.support.scripted_smtp import Connection, ScriptedSmtp
from tests.support.waiting import eventually

from taskbell_notifier.smtp.conversation import Conversation
from taskbell_notifier.smtp.replies import Loss, Stage, Submission, Verdict

GROUP = b"MAIL FROM:<taskbell@example.org> SIZE=51\r\nRCPT TO:<bob@example.org>\r\nDATA\r\n"
BARE_GROUP = b"MAIL FROM:<taskbell@example.org>\r\nRCPT TO:<bob@example.org>\r\nDATA\r\n"


def line_in_use(harness: PoolHarness) -> Conversation:
    """The client's end of the one connection that is being used."""
    (session,) = harness.pool._used
    return session.conversation


def from_client(connection: Connection) -> list[bytes]:
    """What the client wrote after its EHLO, joined where nothing was answered in between."""
    turns: list[bytes] = []
    last = ""
    for who, data in connection.transcript:
        if who == "client" and last == "client":
            turns[-1] += data
        elif who == "client":
            turns.append(data)
        last = who
    return turns[1:]


async def test_a_server_that_pipelines_gets_the_envelope_at_once(harness: PoolHarness) -> None:
    assert (await harness.send()).verdict is Verdict.ACCEPTED
    assert from_client(harness.server.connections[0]) == [
        GROUP,
        b"Message-ID: <1@example.org>\r\nSubject: x\r\n\r\nHello.\r\n.\r\n",
    ]


async def test_a_server_that_does_not_pipeline_gets_one_command_at_a_time(harness: PoolHarness) -> None:
    harness.server.pipelining, harness.server.extensions = False, ()
    assert (await harness.send()).verdict is Verdict.ACCEPTED
    assert from_client(harness.server.connections[0]) == [
        b"MAIL FROM:<taskbell@example.org>\r\n",
        b"RCPT TO:<bob@example.org>\r\n",
        b"DATA\r\n",
        b"Message-ID: <1@example.org>\r\nSubject: x\r\n\r\nHello.\r\n.\r\n",
    ]


async def test_a_server_that_does_not_pipeline_is_told_nothing_more_after_a_refusal(harness: PoolHarness) -> None:
    harness.server.pipelining, harness.server.extensions = False, ()
    harness.server.rule("RCPT", reply="550 5.1.1 unknown")
    assert (await harness.send()).verdict is Verdict.FAILED
    assert from_client(harness.server.connections[0]) == [
        b"MAIL FROM:<taskbell@example.org>\r\n",
        b"RCPT TO:<bob@example.org>\r\n",
        b"RSET\r\n",
    ]


async def test_what_the_server_stores_is_what_was_given(harness: PoolHarness) -> None:
    body = b".\r\n..\r\n.x\r\nlast line without an end"
    assert (await harness.send(body=body)).verdict is Verdict.ACCEPTED
    head = b"Message-ID: <1@example.org>\r\nSubject: x\r\n\r\n"
    assert harness.server.accepted[0].message == head + body + b"\r\n"
    assert harness.server.accepted[0].raw == head + b"..\r\n...\r\n..x\r\nlast line without an end\r\n"


@pytest.mark.parametrize("pipelining", [True, False])
@pytest.mark.parametrize(
    ("point", "reply"),
    [
        ("RCPT", "550 5.1.1 unknown"),
        ("RCPT", "450 later"),
        ("DATA", "451 later"),
        ("DOT", "554 spam"),
        ("DOT", "451 no"),
    ],
)
async def test_a_refusal_does_not_burn_the_next_mail_on_the_session(
    point: str, reply: str, pipelining: bool, harness: PoolHarness
) -> None:
    harness.server.pipelining = pipelining
    harness.server.rule(point, reply=reply, times=1)
    assert (await harness.send("bob@example.org")).verdict is not Verdict.ACCEPTED
    assert (await harness.send("ann@example.org")).verdict is Verdict.ACCEPTED
    assert harness.server.accepted[0].recipients == ("ann@example.org",)
    assert harness.server.opened == 1


async def test_data_accepted_after_a_refused_recipient_is_answered_with_a_lone_dot(harness: PoolHarness) -> None:
    harness.server.rule("RCPT", reply="550 5.1.1 unknown", times=1)
    harness.server.rule("DATA", reply="354 go on", times=1)
    marker = Marker()
    assert (await harness.send(before_data=marker)).stage is Stage.RCPT
    assert marker.calls == 0
    assert (await harness.send()).verdict is Verdict.ACCEPTED
    assert from_client(harness.server.connections[0])[:3] == [GROUP, b".\r\n", b"RSET\r\n"]
    assert harness.accepted == ["<2@example.org>"]


async def test_an_empty_message_is_never_sent_to_a_recipient_whose_sender_was_refused(harness: PoolHarness) -> None:
    harness.server.rule("MAIL", reply="452 4.3.1 no room", times=1)
    harness.server.rule("RCPT", reply="250 why not", times=1)
    harness.server.rule("DATA", reply="354 go on", times=1)
    submission = await harness.send()
    assert (submission.stage, submission.verdict) == (Stage.MAIL, Verdict.RETRY)
    await harness.server.until(lambda: harness.server.connections[0].closed)
    assert from_client(harness.server.connections[0]) == [GROUP]
    assert (await harness.send()).verdict is Verdict.ACCEPTED
    assert harness.accepted == ["<2@example.org>"]


async def test_the_first_refusal_counts(harness: PoolHarness) -> None:
    harness.server.rule("MAIL", reply="451 4.3.0 later", times=1)  # the server then refuses RCPT and DATA with 503, 554
    submission = await harness.send()
    assert (submission.stage, submission.code) == (Stage.MAIL, 451)
    assert (await harness.send()).verdict is Verdict.ACCEPTED
    assert harness.server.opened == 1


@pytest.mark.parametrize("point", ["MAIL", "RCPT", "DATA"])
async def test_after_a_421_nothing_more_is_said_even_if_the_server_stays(point: str, harness: PoolHarness) -> None:
    harness.server.rule(point, reply="421 4.3.2 going down", times=1)
    assert (await harness.send()).verdict is Verdict.ACCEPTED, "the mail goes on over another session"
    await harness.server.until(lambda: harness.server.connections[0].closed)
    assert from_client(harness.server.connections[0]) == [GROUP]


@pytest.mark.parametrize("at_reset", [{"reply": "451 no"}, {"drop": True}, {"reply": "what?"}])
async def test_a_session_that_cannot_be_reset_is_given_up(at_reset: dict[str, object], harness: PoolHarness) -> None:
    harness.server.rule("RCPT", reply="550 5.1.1 unknown", times=1)
    harness.server.rule("RSET", **at_reset)
    assert (await harness.send()).verdict is Verdict.FAILED
    assert (await harness.send()).verdict is Verdict.ACCEPTED
    assert harness.server.opened == 2


@pytest.mark.parametrize("pipelining", [True, False])
@pytest.mark.parametrize("answer", [False, ConnectionError("database gone")])
async def test_a_marker_that_is_not_set_sends_not_a_byte_and_closes(
    answer: bool | Exception, pipelining: bool, harness: PoolHarness
) -> None:
    harness.server.pipelining, harness.server.extensions = pipelining, ()
    submission = await harness.send(before_data=Marker(answer))
    assert (submission.verdict, submission.stage) == (Verdict.NOT_SENT, Stage.DATA)
    assert submission.cause is (answer if isinstance(answer, Exception) else None)
    connection = harness.server.connections[0]
    await harness.server.until(lambda: connection.closed)
    assert connection.received.endswith(BARE_GROUP)
    assert harness.accepted == []
    assert (await harness.send()).verdict is Verdict.ACCEPTED


async def test_the_message_waits_for_the_marker(harness: PoolHarness) -> None:
    committed = asyncio.Event()

    async def commit() -> bool:
        await committed.wait()
        return True

    sending = asyncio.ensure_future(harness.send(before_data=commit))
    connection_count = harness.server.connections
    await harness.server.until(lambda: bool(connection_count) and b"DATA\r\n" in connection_count[0].received)
    assert connection_count[0].received.endswith(b"DATA\r\n")
    committed.set()
    assert (await sending).verdict is Verdict.ACCEPTED


@pytest.mark.parametrize(
    ("word", "text"),
    [("", "connection lost"), ("421 4.4.2 timeout", "unexpected reply: timeout"), ("4", "unexpected reply: 4")],
)
async def test_a_server_that_leaves_while_the_marker_is_set_gets_nothing_and_the_mail_is_retried(
    word: str, text: str, harness: PoolHarness
) -> None:
    async def commit() -> bool:
        if word:
            harness.server.say_to_all(word, close=True)
        else:
            harness.server.drop_all()
        line = line_in_use(harness)
        await eventually(lambda: not line.is_open)
        return True

    submission = await harness.send(before_data=commit)
    assert (submission.verdict, submission.stage, submission.text) == (Verdict.RETRY, Stage.DATA, text)
    assert harness.server.connections[0].received.endswith(GROUP)


async def test_a_server_that_speaks_out_of_turn_while_the_marker_is_set_is_not_trusted(harness: PoolHarness) -> None:
    async def commit() -> bool:
        harness.server.say_to_all("451 4.3.0 changed my mind")
        line = line_in_use(harness)
        await eventually(lambda: not line.is_quiet)
        return True

    submission = await harness.send(before_data=commit)
    assert (submission.verdict, submission.text) == (Verdict.RETRY, "unexpected reply: changed my mind")
    await harness.server.until(lambda: harness.server.connections[0].closed)
    assert harness.server.connections[0].received.endswith(GROUP)


@pytest.mark.parametrize("point", ["MAIL", "RCPT", "DATA"])
async def test_cancelled_before_the_marker_nothing_is_sent_and_the_connection_closed(
    point: str, harness: PoolHarness
) -> None:
    harness.server.rule(point, hold=True, times=1)
    marker = Marker()
    sending = asyncio.ensure_future(harness.send(before_data=marker))
    await harness.server.until(lambda: any(point in c.verbs for c in harness.server.connections))
    await cancel(sending)
    assert marker.calls == 0
    assert [s.verdict for s in harness.notes.submissions] == [Verdict.NOT_SENT]
    connection = harness.server.connections[0]
    await harness.server.until(lambda: connection.closed)
    assert connection.received.endswith(GROUP)
    assert (await harness.send()).verdict is Verdict.ACCEPTED


async def test_cancelled_while_the_marker_is_set_nothing_is_sent(harness: PoolHarness) -> None:
    asked = asyncio.Event()

    async def commit() -> bool:
        asked.set()
        await asyncio.Event().wait()
        return True

    sending = asyncio.ensure_future(harness.send(before_data=commit))
    await asked.wait()
    await cancel(sending)
    assert [s.verdict for s in harness.notes.submissions] == [Verdict.NOT_SENT]
    connection = harness.server.connections[0]
    await harness.server.until(lambda: connection.closed)
    assert connection.received.endswith(GROUP)


async def test_cancelled_after_the_message_it_is_unknown_and_the_connection_closed(harness: PoolHarness) -> None:
    harness.server.rule("DOT", hold=True, times=1)
    marker = Marker()
    sending = asyncio.ensure_future(harness.send(before_data=marker))
    await harness.server.until(lambda: any(c.messages for c in harness.server.connections))
    await cancel(sending)
    assert marker.calls == 1
    assert [s.verdict for s in harness.notes.submissions] == [Verdict.UNKNOWN]
    await harness.server.until(lambda: harness.server.connections[0].closed)
    assert (await harness.send()).verdict is Verdict.ACCEPTED


async def test_a_time_limit_of_the_callers_ends_as_a_timeout(harness: PoolHarness) -> None:
    harness.server.rule("DOT", hold=True, times=1)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await harness.send()


async def test_a_server_gone_before_its_mail_is_heard_to_its_end(open_harness: OpenHarness) -> None:
    """A reply, and the end of the connection after it, may come in one packet."""
    async with ScriptedSmtp() as server:
        harness = await open_harness(server)
        server.rule("DOT", reply="250 2.0.0 taken", drop=True)
        for _ in range(3):
            assert (await harness.send()).verdict is Verdict.ACCEPTED


async def test_losses_name_themselves(harness: PoolHarness) -> None:
    harness.server.rule("DATA", drop=True)
    submission = await harness.send()
    assert submission.loss is Loss.DROPPED
    assert submission.reason == "DATA: connection lost"


async def cancel(task: "asyncio.Task[Submission]") -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert task.cancelled()
