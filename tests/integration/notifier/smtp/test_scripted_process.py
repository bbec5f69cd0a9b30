"""The scripted server as a process of its own, as tests that kill things use it."""

import asyncio
import base64
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.integration.notifier.smtp.pool_harness import Marker
from tests.support.scripted_smtp import ScriptedSmtp
from tests.support.scripted_smtp.__main__ import configure
from tests.support.waiting import eventually

from taskbell.clock import SystemClock
from taskbell_notifier.smtp.envelope import OutgoingMail
from taskbell_notifier.smtp.pool import SmtpPool
from taskbell_notifier.smtp.replies import Verdict
from taskbell_notifier.smtp.settings import SmtpSettings

ROOT = Path(__file__).parents[4]


@asynccontextmanager
async def running(*arguments: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    """The process and its port; ended with SIGTERM, which it must obey."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.scripted_smtp", *arguments),
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    assert process.stdout is not None
    try:
        yield process, json.loads(await process.stdout.readline())["port"]
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 20) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def events(log: Path, event: str) -> list[dict[str, Any]]:
    lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    return [line for line in map(json.loads, lines) if line["event"] == event]


async def test_it_follows_its_script_and_logs_what_it_takes(tmp_path: Path) -> None:
    script, log = tmp_path / "script.json", tmp_path / "smtp.jsonl"
    script.write_text(json.dumps({"rules": [{"at": "RCPT", "reply": "450 later", "recipient": "bob@example.org"}]}))
    async with running("--script", str(script), "--log", str(log), "--log-raw") as (process, port):
        pool = SmtpPool(SmtpSettings(server="127.0.0.1", port=port), SystemClock())

        async def send(recipient: str) -> Verdict:
            message = b"Message-ID: <1@example.org>\r\n\r\n.\r\n"
            return (await pool.submit(OutgoingMail("a@example.org", recipient, message), Marker())).verdict

        assert await send("bob@example.org") is Verdict.RETRY
        assert await send("ann@example.org") is Verdict.ACCEPTED
        (taken,) = events(log, "accepted")
        assert taken["message_id"] == "<1@example.org>"
        assert taken["recipients"] == ["ann@example.org"]
        assert base64.b64decode(taken["raw"]) == b"Message-ID: <1@example.org>\r\n\r\n..\r\n"
        script.write_text(json.dumps({"rules": []}))
        process.send_signal(signal.SIGHUP)
        while await send("bob@example.org") is not Verdict.ACCEPTED:
            continue  # until the signal has come through; the test's own time limit ends it
        await pool.close(5)
        await eventually(lambda: len(events(log, "close")) == len(events(log, "connect")) >= 1)


@pytest.mark.parametrize(
    ("script", "named"),
    [
        ({"rules": [{"at": "RCTP"}]}, "RCTP"),
        ({"rules": [{"at": "RCPT", "say": "no"}]}, "say"),
        ({"rulez": []}, "rulez"),
    ],
)
def test_a_script_with_a_mistake_is_refused(script: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        configure(ScriptedSmtp(), script)
