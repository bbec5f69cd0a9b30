"""The servers and fixtures that all other tests rest on."""

import uuid

import asyncpg
import pytest
from aiosmtplib import send
from tests.support.databases import fresh_database
from tests.support.inbox import Inbox
from tests.support.management import Management
from tests.support.servers import ServerUrls
from tests.support.vhosts import Vhost, fresh_vhost
from tests.support.waiting import eventually


async def test_a_database_is_migrated_and_has_the_apps_tables(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        for table in ("users", "projects", "tasks", "taskbell.delivery", "taskbell.outbox"):
            assert await connection.fetchval(f"SELECT count(*) FROM {table}") == 0
    finally:
        await connection.close()


async def test_databases_do_not_share_rows(database_url: str, module_database_url: str) -> None:
    one, other = await asyncpg.connect(database_url), await asyncpg.connect(module_database_url)
    try:
        await one.execute("INSERT INTO projects (id, name) VALUES (1, 'one')")
        assert await other.fetchval("SELECT count(*) FROM projects") == 0
    finally:
        await one.close()
        await other.close()


async def test_an_empty_database_has_no_tables(empty_database_url: str) -> None:
    connection = await asyncpg.connect(empty_database_url)
    try:
        assert await connection.fetchval("SELECT to_regclass('tasks')") is None
    finally:
        await connection.close()


async def test_a_message_published_by_hand_has_no_properties(management: Management) -> None:
    assert await management.publish("taskbell.events", "weekly.due", '{"user_ids": []}')
    assert (await management.depth("notifier.weekly_due")).ready == 1

    (message,) = await management.take("notifier.weekly_due")

    assert message.json() == {"user_ids": []}
    assert message.headers == {}
    assert set(message.properties) <= {"headers"}
    assert (message.exchange, message.routing_key) == ("taskbell.events", "weekly.due")
    assert (await management.depth("notifier.weekly_due")).ready == 0


async def test_a_message_for_nobody_says_so(management: Management) -> None:
    assert not await management.publish("taskbell.events", "no.such.key", "{}")


async def test_a_listener_gets_what_is_published_from_then_on(management: Management) -> None:
    queue = await management.listen("taskbell.events", "report.*")
    await management.publish("taskbell.events", "report.generated", b"\xff\x00", properties={"type": "x"})

    (message,) = await management.take(queue)

    assert message.body == b"\xff\x00"
    assert message.properties == {"type": "x"}


async def test_virtual_hosts_do_not_share_messages(vhost: Vhost, module_vhost: Vhost) -> None:
    await vhost.management.publish("taskbell.events", "weekly.due")
    assert (await vhost.management.depth("notifier.weekly_due")).ready == 1
    assert (await module_vhost.management.depth("notifier.weekly_due")).ready == 0


async def test_an_empty_virtual_host_has_no_queues(empty_vhost: Vhost) -> None:
    assert await empty_vhost.management.queue_names() == set()


async def test_virtual_hosts_are_gone_when_their_test_is_over(servers: ServerUrls, empty_vhost: Vhost) -> None:
    async def names() -> set[str]:
        return {it["name"] for it in await empty_vhost.management.call("GET", "/vhosts")}

    async with fresh_vhost(servers) as vhost:
        assert vhost.name in await names()
    assert vhost.name not in await names()


async def test_databases_are_gone_when_their_test_is_over_whoever_is_connected(servers: ServerUrls) -> None:
    async with fresh_database(servers.database_url) as url:
        forgotten = await asyncpg.connect(url)
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        await asyncpg.connect(url)
    forgotten.terminate()


async def test_the_inbox_keeps_the_bytes_it_received(inbox: Inbox) -> None:
    raw = b"Subject: =?utf-8?q?gr=C3=BC=C3=9Fe?=\r\nX-Long: " + b"x" * 300 + b"\r\n\r\n.dot\r\nend\r\n"
    await send(raw, sender="a@example.org", recipients=["b@example.org"], hostname=inbox.host, port=inbox.port)

    (mail,) = await inbox.wait_for(1)

    assert mail.raw == raw
    assert (mail.sender, mail.recipient) == ("a@example.org", "b@example.org")
    assert mail.message["subject"] == "grüße"


async def test_eventually_fails_with_the_last_unmet_assertion() -> None:
    def look() -> bool:
        assert uuid.NAMESPACE_URL is None, "never true"
        return True

    with pytest.raises(AssertionError, match="never true"):
        await eventually(look, limit=0.1)
