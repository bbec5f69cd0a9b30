"""The service as a process: messages reach RabbitMQ, a bad file starts nothing, SIGTERM ends it well."""

import asyncio
import os
import re
import signal
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import httpx
from tests.integration.scheduler.conftest import MINUTELY, SchedulerHarness, entry, utc
from tests.support.management import Management
from tests.support.waiting import eventually

QUEUE = "maintenance.generate_task_report"


class Service:
    """`python -m taskbell_scheduler` with a schedules file of its own."""

    def __init__(self, child: asyncio.subprocess.Process, log: Path, client: httpx.AsyncClient) -> None:
        self.child = child
        self._log = log
        self._client = client

    @property
    def told(self) -> str:
        """What it wrote to its standard error so far."""
        return self._log.read_text()

    async def get(self, path: str) -> httpx.Response | None:
        """The answer of its HTTP server, or None while it does not listen."""
        listening = re.search(r'"url": "(http://[^"]+)"', self.told)
        try:
            return await self._client.get(listening[1] + path) if listening else None
        except httpx.TransportError:
            return None

    async def ready(self) -> bool:
        answer = await self.get("/readyz")
        return answer is not None and answer.status_code == 200

    async def terminate(self) -> int:
        """Its exit status after SIGTERM."""
        self.child.send_signal(signal.SIGTERM)
        return await self.ended()

    async def ended(self) -> int:
        """Its exit status, once it has ended."""
        return await asyncio.wait_for(self.child.wait(), timeout=30)


@asynccontextmanager
async def service(database_url: str, broker_url: str, file: Path) -> AsyncIterator[Service]:
    """The service as a process; it is killed at the end if it still runs."""
    environment = {
        **os.environ,
        "DATABASE_URL": database_url,
        "BROKER_URL": broker_url,
        "SCHEDULES_FILE": str(file),
        "LOG_FORMAT": "json",
        "HTTP_PORT": "0",
    }
    command = (sys.executable, "-m", "taskbell_scheduler")
    log = file.parent / f"{uuid.uuid4().hex}.log"
    with log.open("wb") as stderr:
        child = await asyncio.create_subprocess_exec(*command, env=environment, cwd=file.parent, stderr=stderr)
    try:
        async with httpx.AsyncClient(trust_env=False) as client:
            yield Service(child, log, client)
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()


async def test_three_processes_publish_each_minute_once_to_the_broker(
    harness: SchedulerHarness, broker_url: str, management: Management, tmp_path: Path
) -> None:
    file = tmp_path / "schedules.toml"
    file.write_text(MINUTELY)
    await harness.at("2026-11-20T08:00:30")
    async with (
        service(harness.url, broker_url, file) as first,
        service(harness.url, broker_url, file) as second,
        service(harness.url, broker_url, file) as third,
    ):
        services = [first, second, third]
        for one in services:
            await eventually(one.ready)
        minutes = [utc("2026-11-20T08:01") + timedelta(minutes=ahead) for ahead in range(3)]
        for published, minute in enumerate(minutes, start=1):
            await harness.at((minute - timedelta(milliseconds=300)).isoformat(), runs=True)

            async def arrived(published: int = published) -> bool:
                return (await management.depth(QUEUE)).ready == published

            await eventually(arrived)
        metrics = await first.get("/metrics")
        assert metrics
        assert "taskbell_occurrence_lateness_seconds_bucket" in metrics.text
        assert [await one.terminate() for one in services] == [0, 0, 0]
    messages = await management.take(QUEUE)
    expected = [minute.isoformat().replace("+00:00", "Z") for minute in minutes]
    assert [message.json()["occurrence"] for message in messages] == expected
    assert len({message.properties["message_id"] for message in messages}) == 3
    assert messages[0].properties["type"] == QUEUE


async def test_a_file_with_mistakes_starts_nothing_and_names_them_all(
    harness: SchedulerHarness, broker_url: str, tmp_path: Path
) -> None:
    file = tmp_path / "schedules.toml"
    file.write_text(entry("a", "0 8 * *", catch_up="soon") + entry("a", "0 8 * * *", "nothing.due", timezone="Mars/X"))
    async with service(harness.url, broker_url, file) as broken:
        assert await broken.ended() == 2
        assert "schedules.toml has 5 mistakes" in broken.told
        for field in ("cron", "catch_up", "publish", "timezone", "name"):
            assert f'schedule "a": {field}: ' in broken.told
    assert await harness.sql("SELECT 1 FROM taskbell.schedule_state") == []


async def test_it_waits_for_a_setup_that_has_not_been_run(
    empty_database_url: str, broker_url: str, tmp_path: Path
) -> None:
    file = tmp_path / "schedules.toml"
    file.write_text(MINUTELY)
    async with service(empty_database_url, broker_url, file) as waiting:

        async def says_so() -> bool:
            answer = await waiting.get("/readyz")
            return answer is not None and answer.status_code == 503 and "taskbell setup" in answer.text

        await eventually(says_so)
        assert await waiting.terminate() == 0
