"""The same on asyncio's own event loop and on uvloop, which differ in their transports."""

import asyncio
from collections.abc import Callable
from typing import Any, Literal

import pytest
import uvloop
from tests.integration.notifier.smtp.pool_harness import PROMPT_WAITS, SILENCE, Marker, Notes, PoolHarness
from tests.support.scripted_smtp import Certificate, ScriptedSmtp

from taskbell.clock import SystemClock
from taskbell_notifier.smtp.envelope import OutgoingMail
from taskbell_notifier.smtp.pool import SmtpPool
from taskbell_notifier.smtp.replies import Verdict
from taskbell_notifier.smtp.settings import SmtpSettings

NewLoop = Callable[[], asyncio.AbstractEventLoop]
LOOPS = pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
Tls = Literal["none", "starttls", "implicit"]


async def at_work(tls: Tls, pipelining: bool, certificate: Certificate) -> None:
    """A mail taken, one refused, one timed out, one lost, one not allowed, one cancelled; then one taken again."""
    async with ScriptedSmtp(tls=tls, certificate=certificate, pipelining=pipelining) as server:
        settings: dict[str, Any] = {"use_tls": tls == "starttls", "use_ssl": tls == "implicit"}
        settings |= {"server": "localhost", "port": server.port, "ca_file": str(certificate.certificate)}
        settings |= {"pool_size": 1, "timeout": SILENCE, "data_timeout": SILENCE}
        pool = SmtpPool(SmtpSettings(**settings), SystemClock(), waits=PROMPT_WAITS)
        harness = PoolHarness(pool, server, Notes())
        assert (await harness.send(body=b"x" * 70 + b"\r\n" * 100_000)).verdict is Verdict.ACCEPTED
        server.rule("RCPT", reply="550 5.1.1 unknown", times=1)
        assert (await harness.send()).verdict is Verdict.FAILED
        server.rule("RCPT", hold=True, times=1)
        assert (await harness.send()).verdict is Verdict.RETRY
        server.rule("DOT", drop=True, reset=True, times=1)
        assert (await harness.send()).verdict is Verdict.UNKNOWN
        assert (await harness.send(before_data=Marker(False))).verdict is Verdict.NOT_SENT
        held = server.rule("DATA", hold=True, times=1)
        sending = asyncio.ensure_future(harness.send())
        await server.until(lambda: held.seen == 1)
        sending.cancel()
        await asyncio.wait({sending})
        assert sending.cancelled()
        assert (await harness.send()).verdict is Verdict.ACCEPTED
        assert harness.accepted == ["<1@example.org>", "<7@example.org>"]
        assert await pool.close(5) == 0
        await server.until(lambda: not server.open_connections)


@LOOPS
@pytest.mark.parametrize("tls", ["none", "starttls", "implicit"])
@pytest.mark.parametrize("pipelining", [True, False], ids=["pipelining", "one by one"])
def test_each_loop_behaves_alike(new_loop: NewLoop, tls: Tls, pipelining: bool, certificate: Certificate) -> None:
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(at_work(tls, pipelining, certificate))


@LOOPS
def test_a_pool_may_be_made_before_its_loop_runs(new_loop: NewLoop) -> None:
    pool = SmtpPool(SmtpSettings(server="127.0.0.1", port=1), SystemClock(), waits=PROMPT_WAITS)

    async def one_mail() -> Verdict:
        submission = await pool.submit(OutgoingMail("a@example.org", "b@example.org", b"x\r\n"), Marker())
        await pool.close(1)
        return submission.verdict

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(one_mail()) is Verdict.SERVER_FAULT
