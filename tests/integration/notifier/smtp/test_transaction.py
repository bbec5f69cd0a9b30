"""One mail over a connection: what is written when, and what the connection is good for afterwards."""

import asyncio
import contextlib

import pytest
from tests.integration.notifier.smtp.office import Marker, Office, OpenOffice
from tests.support.scripted_smtp import Connection, ScriptedSmtp
from tests.support.waiting import eventually

from taskbell_notifier.smtp.conversation import Conversation
from taskbell_notifier.smtp.replies import Loss, Stage, Submission, Verdict

GROUP = b"MAIL FROM:<taskbell@example.org> SIZE=51\r\nRCPT TO:<bob@example.org>\r\nDATA\r\n"
BARE_GROUP = b"MAIL FROM:<taskbell@example.org>\r\nRCPT TO:<bob@example.org>\r\nDATA\r\n"


def line_in_use(office: Office) -> Conversation:
    """The client's end of the one connection that is being used."""
    (session,) = office.pool._used
    return session.line


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


async def test_a_server_that_pipelines_gets_the_envelope_at_once(office: Office) -> None:
    assert (await office.send()).verdict is Verdict.ACCEPTED
    assert from_client(office.server.connections[0]) == [
        GROUP,
        b"Message-ID: <1@example.org>\r\nSubject: x\r\n\r\nHello.\r\n.\r\n",
    ]


async def test_a_server_that_does_not_pipeline_gets_one_command_at_a_time(office: Office) -> None:
    office.server.pipelining, office.server.extensions = False, ()
    assert (await office.send()).verdict is Verdict.ACCEPTED
    assert from_client(office.server.connections[0]) == [
        b"MAIL FROM:<taskbell@example.org>\r\n",
        b"RCPT TO:<bob@example.org>\r\n",
        b"DATA\r\n",
        b"Message-ID: <1@example.org>\r\nSubject: x\r\n\r\nHello.\r\n.\r\n",
    ]


async def test_a_server_that_does_not_pipeline_is_told_nothing_more_after_a_refusal(office: Office) -> None:
    office.server.pipelining, office.server.extensions = False, ()
    office.server.rule("RCPT", reply="550 5.1.1 unknown")
    assert (await office.send()).verdict is Verdict.FAILED
    assert from_client(office.server.connections[0]) == [
        b"MAIL FROM:<taskbell@example.org>\r\n",
        b"RCPT TO:<bob@example.org>\r\n",
        b"RSET\r\n",
    ]


async def test_what_the_server_stores_is_what_was_given(office: Office) -> None:
    body = b".\r\n..\r\n.x\r\nlast line without an end"
    assert (await office.send(body=body)).verdict is Verdict.ACCEPTED
    head = b"Message-ID: <1@example.org>\r\nSubject: x\r\n\r\n"
    assert office.server.accepted[0].message == head + body + b"\r\n"
    assert office.server.accepted[0].raw == head + b"..\r\n...\r\n..x\r\nlast line without an end\r\n"


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
    point: str, reply: str, pipelining: bool, office: Office
) -> None:
    office.server.pipelining = pipelining
    office.server.rule(point, reply=reply, times=1)
    assert (await office.send("bob@example.org")).verdict is not Verdict.ACCEPTED
    assert (await office.send("ann@example.org")).verdict is Verdict.ACCEPTED
    assert office.server.accepted[0].recipients == ("ann@example.org",)
    assert office.server.opened == 1


async def test_data_accepted_after_a_refused_recipient_is_answered_with_a_lone_dot(office: Office) -> None:
    office.server.rule("RCPT", reply="550 5.1.1 unknown", times=1)
    office.server.rule("DATA", reply="354 go on", times=1)
    marker = Marker()
    assert (await office.send(before_data=marker)).stage is Stage.RCPT
    assert marker.calls == 0
    assert (await office.send()).verdict is Verdict.ACCEPTED
    assert from_client(office.server.connections[0])[:3] == [GROUP, b".\r\n", b"RSET\r\n"]
    assert office.accepted == ["<2@example.org>"]


async def test_an_empty_message_is_never_sent_to_a_recipient_whose_sender_was_refused(office: Office) -> None:
    office.server.rule("MAIL", reply="452 4.3.1 no room", times=1)
    office.server.rule("RCPT", reply="250 why not", times=1)
    office.server.rule("DATA", reply="354 go on", times=1)
    submission = await office.send()
    assert (submission.stage, submission.verdict) == (Stage.MAIL, Verdict.RETRY)
    await office.server.until(lambda: office.server.connections[0].closed)
    assert from_client(office.server.connections[0]) == [GROUP]
    assert (await office.send()).verdict is Verdict.ACCEPTED
    assert office.accepted == ["<2@example.org>"]


async def test_the_first_refusal_counts(office: Office) -> None:
    office.server.rule("MAIL", reply="451 4.3.0 later", times=1)  # the server then refuses RCPT and DATA with 503, 554
    submission = await office.send()
    assert (submission.stage, submission.code) == (Stage.MAIL, 451)
    assert (await office.send()).verdict is Verdict.ACCEPTED
    assert office.server.opened == 1


@pytest.mark.parametrize("point", ["MAIL", "RCPT", "DATA"])
async def test_after_a_421_nothing_more_is_said_even_if_the_server_stays(point: str, office: Office) -> None:
    office.server.rule(point, reply="421 4.3.2 going down", times=1)
    submission = await office.send()
    assert (submission.verdict, submission.code) == (Verdict.RETRY, 421)
    await office.server.until(lambda: office.server.connections[0].closed)
    assert from_client(office.server.connections[0]) == [GROUP]


@pytest.mark.parametrize("at_reset", [{"reply": "451 no"}, {"drop": True}, {"reply": "what?"}])
async def test_a_session_that_cannot_be_reset_is_given_up(at_reset: dict[str, object], office: Office) -> None:
    office.server.rule("RCPT", reply="550 5.1.1 unknown", times=1)
    office.server.rule("RSET", **at_reset)
    assert (await office.send()).verdict is Verdict.FAILED
    assert (await office.send()).verdict is Verdict.ACCEPTED
    assert office.server.opened == 2


@pytest.mark.parametrize("pipelining", [True, False])
@pytest.mark.parametrize("answer", [False, ConnectionError("database gone")])
async def test_a_marker_that_is_not_set_sends_not_a_byte_and_closes(
    answer: bool | Exception, pipelining: bool, office: Office
) -> None:
    office.server.pipelining, office.server.extensions = pipelining, ()
    submission = await office.send(before_data=Marker(answer))
    assert (submission.verdict, submission.stage) == (Verdict.NOT_SENT, Stage.DATA)
    assert submission.cause is (answer if isinstance(answer, Exception) else None)
    connection = office.server.connections[0]
    await office.server.until(lambda: connection.closed)
    assert connection.received.endswith(BARE_GROUP)
    assert office.accepted == []
    assert (await office.send()).verdict is Verdict.ACCEPTED


async def test_the_message_waits_for_the_marker(office: Office) -> None:
    committed = asyncio.Event()

    async def commit() -> bool:
        await committed.wait()
        return True

    sending = asyncio.ensure_future(office.send(before_data=commit))
    connection_count = office.server.connections
    await office.server.until(lambda: bool(connection_count) and b"DATA\r\n" in connection_count[0].received)
    assert connection_count[0].received.endswith(b"DATA\r\n")
    committed.set()
    assert (await sending).verdict is Verdict.ACCEPTED


@pytest.mark.parametrize(
    ("word", "text"),
    [("", "connection lost"), ("421 4.4.2 timeout", "unexpected reply: timeout"), ("4", "unexpected reply: 4")],
)
async def test_a_server_that_leaves_while_the_marker_is_set_gets_nothing_and_the_mail_is_retried(
    word: str, text: str, office: Office
) -> None:
    async def commit() -> bool:
        if word:
            office.server.say_to_all(word, close=True)
        else:
            office.server.drop_all()
        line = line_in_use(office)
        await eventually(lambda: not line.is_open)
        return True

    submission = await office.send(before_data=commit)
    assert (submission.verdict, submission.stage, submission.text) == (Verdict.RETRY, Stage.DATA, text)
    assert office.server.connections[0].received.endswith(GROUP)


async def test_a_server_that_speaks_out_of_turn_while_the_marker_is_set_is_not_trusted(office: Office) -> None:
    async def commit() -> bool:
        office.server.say_to_all("451 4.3.0 changed my mind")
        line = line_in_use(office)
        await eventually(lambda: not line.is_quiet)
        return True

    submission = await office.send(before_data=commit)
    assert (submission.verdict, submission.text) == (Verdict.RETRY, "unexpected reply: changed my mind")
    await office.server.until(lambda: office.server.connections[0].closed)
    assert office.server.connections[0].received.endswith(GROUP)


@pytest.mark.parametrize("point", ["MAIL", "RCPT", "DATA"])
async def test_cancelled_before_the_marker_nothing_is_sent_and_the_connection_closed(
    point: str, office: Office
) -> None:
    office.server.rule(point, hold=True, times=1)
    marker = Marker()
    sending = asyncio.ensure_future(office.send(before_data=marker))
    await office.server.until(lambda: any(point in c.verbs for c in office.server.connections))
    await cancel(sending)
    assert marker.calls == 0
    assert [s.verdict for s in office.notes.submissions] == [Verdict.NOT_SENT]
    connection = office.server.connections[0]
    await office.server.until(lambda: connection.closed)
    assert connection.received.endswith(GROUP)
    assert (await office.send()).verdict is Verdict.ACCEPTED


async def test_cancelled_while_the_marker_is_set_nothing_is_sent(office: Office) -> None:
    asked = asyncio.Event()

    async def commit() -> bool:
        asked.set()
        await asyncio.Event().wait()
        return True

    sending = asyncio.ensure_future(office.send(before_data=commit))
    await asked.wait()
    await cancel(sending)
    assert [s.verdict for s in office.notes.submissions] == [Verdict.NOT_SENT]
    connection = office.server.connections[0]
    await office.server.until(lambda: connection.closed)
    assert connection.received.endswith(GROUP)


async def test_cancelled_after_the_message_it_is_unknown_and_the_connection_closed(office: Office) -> None:
    office.server.rule("DOT", hold=True, times=1)
    marker = Marker()
    sending = asyncio.ensure_future(office.send(before_data=marker))
    await office.server.until(lambda: any(c.messages for c in office.server.connections))
    await cancel(sending)
    assert marker.calls == 1
    assert [s.verdict for s in office.notes.submissions] == [Verdict.UNKNOWN]
    await office.server.until(lambda: office.server.connections[0].closed)
    assert (await office.send()).verdict is Verdict.ACCEPTED


async def test_a_time_limit_of_the_callers_ends_as_a_timeout(office: Office) -> None:
    office.server.rule("DOT", hold=True, times=1)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await office.send()


async def test_a_server_gone_before_its_mail_is_heard_to_its_end(open_office: OpenOffice) -> None:
    """A reply, and the end of the connection after it, may come in one packet."""
    async with ScriptedSmtp() as server:
        office = await open_office(server)
        server.rule("DOT", reply="250 2.0.0 taken", drop=True)
        for _ in range(3):
            assert (await office.send()).verdict is Verdict.ACCEPTED


async def test_losses_name_themselves(office: Office) -> None:
    office.server.rule("DATA", drop=True)
    submission = await office.send()
    assert submission.loss is Loss.DROPPED
    assert submission.reason == "DATA: connection lost"


async def cancel(task: "asyncio.Task[Submission]") -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert task.cancelled()
