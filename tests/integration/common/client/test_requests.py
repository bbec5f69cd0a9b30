"""Asking how a command ended, on a real broker and database."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

import asyncpg
import pytest
import pytest_asyncio
from tests.support.management import Management
from tests.support.proxy import Proxy
from tests.support.responder import QUEUE, status_updates_answered
from tests.support.vhosts import Vhost
from tests.support.waiting import eventually

from taskbell.client import (
    AsyncClient,
    BrokerUnavailable,
    Client,
    CommandOutcome,
    OutcomeLost,
    OutcomeTimeout,
    Unroutable,
)
from taskbell.contracts import TaskStatus, UpdateTaskStatus

TASKS = 200


@pytest_asyncio.fixture(scope="module")
async def tasks(module_database_url: str) -> str:
    connection = await asyncpg.connect(module_database_url)
    await connection.execute(
        "INSERT INTO tasks (id, title) SELECT n, 'task ' || n FROM generate_series(1, $1) n", TASKS
    )
    await connection.close()
    return module_database_url


@pytest_asyncio.fixture
async def responder(tasks: str, module_broker_url: str) -> AsyncIterator[None]:
    async with status_updates_answered(tasks, module_broker_url):
        yield


@pytest_asyncio.fixture
async def client(module_broker_url: str) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(module_broker_url, timeout=30) as client:
        yield client


def update(task_id: int, status: TaskStatus = TaskStatus.DONE) -> UpdateTaskStatus:
    return UpdateTaskStatus(task_id=task_id, new_status=status)


@pytest.mark.usefixtures("responder")
async def test_each_way_to_end_is_told(client: AsyncClient) -> None:
    done = await client.request(update(1), message_id="first")
    assert done == CommandOutcome(
        message_id="first", state="done", result={"task_id": 1, "old_status": "pending", "new_status": "done"}
    )
    assert done.ok

    unchanged = await client.request(update(1))
    assert (unchanged.state, unchanged.ok) == ("unchanged", True)

    rejected = await client.request(update(TASKS + 1))
    assert (rejected.state, rejected.ok, rejected.reason) == ("rejected", False, f"task {TASKS + 1} does not exist")


@pytest.mark.usefixtures("responder")
async def test_another_command_under_the_id_is_rejected_also_while_the_first_is_under_way(client: AsyncClient) -> None:
    ids = {"message_id": "taken", "correlation_id": "form 7"}
    commands = [update(103), update(104), update(103)]
    outcomes = await asyncio.gather(*(client.request(command, **ids) for command in commands))
    assert [it.state for it in outcomes] == ["done", "rejected", "done"]
    later = await client.request(update(105), message_id="taken")
    assert (outcomes[1].reason, later.reason) == ("this message_id was another message's",) * 2


@pytest.mark.usefixtures("responder")
async def test_asked_again_with_the_same_id_the_first_outcome_is_told(client: AsyncClient) -> None:
    first = await client.request(update(2), message_id="once")
    await client.request(update(2, TaskStatus.PENDING))
    assert first.state == "done"
    assert await client.request(update(2), message_id="once") == first


@pytest.mark.usefixtures("responder")
async def test_the_same_question_asked_twice_at_once_is_answered_twice(client: AsyncClient) -> None:
    question = {"message_id": "double-click", "correlation_id": "web-1"}
    one, other = await asyncio.gather(*(client.request(update(3), **question) for _ in range(2)))
    assert one == other
    assert one.state == "done"


@pytest.mark.usefixtures("responder")
async def test_two_commands_may_share_a_correlation_id(client: AsyncClient) -> None:
    outcomes = await asyncio.gather(*(client.request(update(n), correlation_id="web-2") for n in (4, 5)))
    assert [outcome.result and outcome.result["task_id"] for outcome in outcomes] == [4, 5]


@pytest.mark.usefixtures("responder")
async def test_many_threads_share_one_connection_and_each_gets_its_own_answer(
    module_broker_url: str, module_management: Management
) -> None:
    async with Proxy(module_broker_url) as proxy:
        with Client(proxy.url, timeout=60) as client, ThreadPoolExecutor(16) as threads:
            calls = [threads.submit(client.request, update(n)) for n in range(10, TASKS)]
            outcomes = await asyncio.gather(*map(asyncio.wrap_future, calls))
        assert proxy.accepted == 1
    assert [outcome.result and outcome.result["task_id"] for outcome in outcomes] == list(range(10, TASKS))


@pytest.mark.usefixtures("responder")
async def test_answers_that_are_none_do_not_end_the_wait(
    client: AsyncClient, module_management: Management, caplog: pytest.LogCaptureFixture
) -> None:
    listener = await module_management.listen("taskbell.commands", QUEUE)
    await client.request(update(6))
    (asked,) = await module_management.take(listener)
    address = asked.properties["reply_to"]
    request = asyncio.create_task(client.request(update(6), message_id="m6", correlation_id="c6"))
    for body in (b"no json", b'{"message_id": "m6"}', b'{"message_id": "another", "state": "done"}'):
        await module_management.publish("", address, body, properties={"correlation_id": "c6"})
    assert (await request).state == "unchanged"
    assert "Consumer callback failed" not in caplog.text


async def test_without_an_answer_in_time_it_says_how_to_find_out(
    client: AsyncClient, module_management: Management
) -> None:
    with pytest.raises(OutcomeTimeout) as caught:
        await client.request(update(1), message_id="m7", timeout=0.2)
    assert caught.value.message_id == "m7"
    assert "maintenance.update_task_status: no outcome within 0.2 s" in str(caught.value)
    assert "may still take effect" in str(caught.value)
    assert "`taskbell commands show m7`" in str(caught.value)
    (message,) = await module_management.take(QUEUE)
    assert message.properties["message_id"] == "m7"


async def test_a_connection_lost_while_waiting_is_told_at_once_and_the_next_question_has_a_new_one(
    tasks: str, module_broker_url: str, module_management: Management
) -> None:
    async with Proxy(module_broker_url) as proxy, AsyncClient(proxy.url, timeout=60) as client:
        request = asyncio.create_task(client.request(update(8), message_id="m8"))
        await eventually(lambda: _waits(module_management))
        proxy.cut()
        with pytest.raises(OutcomeLost, match="`taskbell commands show m8`") as caught:
            await request
        assert caught.value.message_id == "m8"
        async with status_updates_answered(tasks, module_broker_url):
            assert (await client.request(update(8), message_id="m8")).state == "done"


async def _waits(management: Management) -> bool:
    return (await management.depth(QUEUE)).ready == 1


async def test_a_question_that_cannot_be_put_fails_as_a_publish_does(vhost: Vhost, unused_tcp_port: int) -> None:
    await vhost.management.call("DELETE", f"/queues/{{vhost}}/{QUEUE}")
    async with AsyncClient(vhost.url) as client:
        with pytest.raises(Unroutable):
            await client.request(update(1))
    async with AsyncClient(f"amqp://127.0.0.1:{unused_tcp_port}/") as client:
        with pytest.raises(BrokerUnavailable):
            await client.request(update(1))
