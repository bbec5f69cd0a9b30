"""Before `taskbell setup` has run, services wait and say so; then they go on by themselves."""

import asyncio
import sys

import httpx
from tests.support.inbox import Inbox
from tests.support.installation import Installation
from tests.support.vhosts import Vhost
from tests.support.waiting import eventually


async def test_services_wait_for_the_setup_and_then_become_ready(
    empty_database_url: str, empty_vhost: Vhost, inbox: Inbox
) -> None:
    installation = Installation(empty_database_url, empty_vhost, inbox)
    starting = asyncio.create_task(installation.start("maintenance"))
    try:

        async def says_what_is_missing() -> bool:
            async with httpx.AsyncClient(trust_env=False) as client:
                answer = await client.get(f"{installation.url('maintenance')}/readyz")
            return answer.status_code == 503 and "taskbell setup" in answer.text

        async def waits() -> bool:
            try:
                return await says_what_is_missing()
            except (httpx.TransportError, KeyError):
                return False  # its HTTP server is not up yet

        await eventually(waits, what="a service that says that it waits for the setup")
        assert not starting.done()

        await set_up(installation)

        await starting
    finally:
        await asyncio.gather(starting, return_exceptions=True)
        await installation.stop()


async def set_up(installation: Installation) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", "from taskbell.cli import main; main()", "setup"),
        env=installation.environment(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
