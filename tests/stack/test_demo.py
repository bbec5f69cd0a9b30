"""The stack as whoever tries it first brings it up: with people, tasks, all mailings and an inbox."""

import asyncio
import subprocess
from collections.abc import Callable

import aiohttp
import httpx
import pytest

from tests.stack.compose import Compose

MAILS = 7 + 8 + 10  # reminders, overdue alerts and weekly summaries of the demo's people


@pytest.fixture(scope="module")
def demo(compose: Callable[..., Compose]) -> Compose:
    stack = compose("demo", profiles=["demo", "dev"])
    stack.up()
    return stack


def test_it_ends_healthy_with_the_mails_in_the_inbox(demo: Compose) -> None:
    assert demo.inspect("demo")[0]["State"]["Health"]["Status"] == "healthy"
    assert _sent(demo) == MAILS
    assert asyncio.run(_in_inbox(demo.port("mailpit", 8025))) == MAILS
    said = demo("logs", "--no-color", "demo")
    for words in ("7 sent", "8 sent", "10 sent", "Archived 18 tasks", "Changed pending to in_progress"):
        assert words in said


def test_after_down_and_up_again_it_has_its_data_and_does_nothing_twice(demo: Compose) -> None:
    demo("down", "--timeout", "40")
    assert demo.ids("postgres") == []
    demo.up()
    assert demo.sql("SELECT count(*) FROM users") == [["12"]]
    assert demo.sql("SELECT count(*) FROM taskbell.archive_batch WHERE message_id = 'demo-cleanup'") == [["1"]]
    assert _sent(demo) == MAILS
    assert asyncio.run(_in_inbox(demo.port("mailpit", 8025))) == 0, "the inbox keeps nothing, and nothing came again"


def test_down_with_volumes_leaves_nothing(demo: Compose) -> None:
    demo.remove()
    label = f"label=com.docker.compose.project={demo.project}"
    for what in (["ps", "--all"], ["volume", "ls"], ["network", "ls"]):
        listed = subprocess.run(
            ["docker", *what, "--quiet", "--filter", label], capture_output=True, text=True, check=True
        )
        assert listed.stdout == "", what


def _sent(demo: Compose) -> int:
    # The demo's own: the shipped schedules may fall due while it runs.
    ((number,),) = demo.sql(
        "SELECT count(*) FROM taskbell.delivery d JOIN taskbell.mailing m ON m.id = d.mailing_id"
        " WHERE m.message_id LIKE 'demo-%' AND d.state = 'sent'"
    )
    return int(number)


async def _in_inbox(port: int) -> int:
    """The number of mails that the inbox has: MAILPIT_IMAGE may be Mailpit, or mail-devel as in `make demo`."""
    url = f"http://127.0.0.1:{port}"
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(f"{url}/api/v1/messages")
    if answer.status_code == 200:
        return int(answer.json()["total"])
    async with aiohttp.ClientSession() as session, session.ws_connect(f"{url}/websocket", max_msg_size=0) as page:
        await page.send_json({"command": "list_accounts"})
        (account,) = (await page.receive_json())["data"]["accounts"]
        await page.send_json({"command": "list_mails", "account": account, "mailbox": "INBOX"})
        return len((await page.receive_json())["data"]["mails"])
