"""Publishing by the clients, on a real broker."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from tests.support.management import Management
from tests.support.proxy import Proxy, silent_server
from tests.support.vhosts import Vhost

from taskbell.client import (
    AsyncClient,
    BrokerUnavailable,
    Client,
    PublishTimeout,
    TopologyMissing,
    Unroutable,
)
from taskbell.contracts import ReminderDue, TaskStatus, TaskStatusChanged, UpdateTaskStatus

QUEUE = "maintenance.update_task_status"
COMMAND = UpdateTaskStatus(task_id=7, new_status=TaskStatus.DONE)


@pytest_asyncio.fixture
async def client(module_broker_url: str) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(module_broker_url) as client:
        yield client


@pytest_asyncio.fixture
async def proxy(module_broker_url: str) -> AsyncIterator[Proxy]:
    async with Proxy(module_broker_url) as proxy:
        yield proxy


@pytest_asyncio.fixture(autouse=True)
async def _queue_is_empty(module_management: Management) -> None:
    await module_management.take(QUEUE)


async def test_a_command_arrives_with_its_body_and_properties(
    client: AsyncClient, module_management: Management
) -> None:
    before = int(time.time())
    message_id = await client.publish(
        UpdateTaskStatus(task_id=7, new_status="done"),  # type: ignore[arg-type]  # strings do, as on the wire
        message_id="form-4711",
        correlation_id="web-1",
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    )

    (message,) = await module_management.take(QUEUE)
    assert message_id == "form-4711"
    assert message.json() == {"task_id": 7, "new_status": "done"}
    assert (message.exchange, message.routing_key) == ("taskbell.commands", "maintenance.update_task_status")
    assert message.headers == {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    properties = dict(message.properties)
    assert before <= properties.pop("timestamp") <= time.time()
    del properties["headers"]
    assert properties == {
        "type": "maintenance.update_task_status",
        "message_id": "form-4711",
        "correlation_id": "web-1",
        "content_type": "application/json",
        "delivery_mode": 2,
    }


async def test_a_message_without_an_id_gets_one_that_is_returned(
    client: AsyncClient, module_management: Management
) -> None:
    first, second = await client.publish(COMMAND), await client.publish(COMMAND)
    messages = await module_management.take(QUEUE)
    assert [message.properties["message_id"] for message in messages] == [first, second]
    assert first != second


async def test_an_event_goes_to_the_exchange_of_events(client: AsyncClient, module_management: Management) -> None:
    await client.publish(ReminderDue(user_ids=(1, 2), force=True))
    (message,) = await module_management.take("notifier.reminder_due")
    assert (message.exchange, message.json()) == ("taskbell.events", {"user_ids": [1, 2], "force": True})


async def test_an_event_that_nobody_listens_to_is_published_all_the_same(client: AsyncClient) -> None:
    assert await client.publish(
        TaskStatusChanged(task_id=1, old_status="pending", new_status="done", requested_by=None)
    )


async def test_blocking_code_publishes_in_the_same_words(module_broker_url: str, module_management: Management) -> None:
    with Client(module_broker_url) as client:
        message_id = await asyncio.to_thread(client.publish, COMMAND, correlation_id="web-2")
    (message,) = await module_management.take(QUEUE)
    assert message.properties["message_id"] == message_id
    assert message.properties["correlation_id"] == "web-2"


async def test_a_command_without_its_queue_is_unroutable(vhost: Vhost) -> None:
    await vhost.management.call("DELETE", f"/queues/{{vhost}}/{QUEUE}")
    async with AsyncClient(vhost.url) as client:
        with pytest.raises(Unroutable, match="no queue is bound") as caught:
            await client.publish(COMMAND, message_id="m1")
        assert caught.value.message_id == "m1"


async def test_of_two_publishes_of_one_message_at_once_neither_is_taken_for_routed(vhost: Vhost) -> None:
    await vhost.management.call("DELETE", f"/queues/{{vhost}}/{QUEUE}")
    async with AsyncClient(vhost.url) as client:
        both = await asyncio.gather(
            *(client.publish(COMMAND, message_id="double-click") for _ in range(2)), return_exceptions=True
        )
    assert [type(result) for result in both] == [Unroutable, Unroutable]


async def test_without_setup_it_says_what_to_run(empty_vhost: Vhost) -> None:
    async with AsyncClient(empty_vhost.url) as client:
        with pytest.raises(TopologyMissing, match="run `taskbell setup`"):
            await client.publish(COMMAND)


async def test_a_broker_that_is_down_is_said_so(unused_tcp_port: int) -> None:
    async with AsyncClient(f"amqp://guest:secret@127.0.0.1:{unused_tcp_port}/") as client:
        with pytest.raises(BrokerUnavailable) as caught:
            await client.publish(COMMAND, message_id="m1")
    assert caught.value.message_id == "m1"
    assert "secret" not in str(caught.value)


async def test_a_server_that_never_answers_ends_the_call_at_its_limit() -> None:
    async with silent_server() as url, AsyncClient(url) as client:
        with pytest.raises(BrokerUnavailable, match=r"did not answer within 0\.2 s"):
            await client.publish(COMMAND, timeout=0.2)


async def test_a_missing_confirm_ends_the_call_and_the_message_may_be_published_again(
    proxy: Proxy, module_management: Management
) -> None:
    async with AsyncClient(proxy.url) as client:
        await client.publish(COMMAND)
        await module_management.take(QUEUE)
        proxy.hold()
        with pytest.raises(PublishTimeout, match=r"did not confirm within 0\.2 s") as caught:
            await client.publish(COMMAND, message_id="again", timeout=0.2)
        assert caught.value.message_id == "again"
        proxy.release()
        assert await client.publish(COMMAND, message_id="again") == "again"
    assert [it.properties["message_id"] for it in await module_management.take(QUEUE)].count("again") >= 1


async def test_a_connection_that_turns_out_to_be_lost_costs_nothing(
    proxy: Proxy, module_management: Management
) -> None:
    async with AsyncClient(proxy.url) as client:
        await client.publish(COMMAND, message_id="before")
        proxy.cut_at_next_word()
        await client.publish(COMMAND, message_id="after")
    assert [it.properties["message_id"] for it in await module_management.take(QUEUE)] == ["before", "after"]
    assert proxy.accepted == 2


async def test_after_closing_a_call_connects_anew(client: AsyncClient, module_management: Management) -> None:
    await client.publish(COMMAND)
    await client.close()
    await client.publish(COMMAND)
    assert len(await module_management.take(QUEUE)) == 2


async def test_a_blocking_client_works_again_after_closing(
    module_broker_url: str, module_management: Management
) -> None:
    client = Client(module_broker_url)
    for _ in range(2):
        await asyncio.to_thread(client.publish, COMMAND)
        await asyncio.to_thread(client.close)
    assert len(await module_management.take(QUEUE)) == 2


async def test_closing_while_calls_are_under_way_ends_them_with_an_error(proxy: Proxy) -> None:
    client = Client(proxy.url)
    await asyncio.to_thread(client.publish, COMMAND)
    proxy.hold()
    call = asyncio.create_task(asyncio.to_thread(client.publish, COMMAND, timeout=60))
    await proxy.held.wait()
    await asyncio.to_thread(client.close)
    with pytest.raises(BrokerUnavailable) as raised:
        await call
    assert raised.value.message_id, "or nobody could publish it again safely"


def test_a_client_of_another_event_loop_is_refused(module_broker_url: str) -> None:
    client = AsyncClient(module_broker_url)

    async def use() -> None:
        await client.publish(COMMAND)
        await client.close()

    asyncio.run(use())
    with pytest.raises(RuntimeError, match=r"another event loop.*taskbell\.client\.Client"):
        asyncio.run(use())
