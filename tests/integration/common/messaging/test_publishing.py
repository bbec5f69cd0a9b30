"""Publishing: confirmed, within its time, and honest about what went wrong."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime

import aiormq
import pytest
import pytest_asyncio
from aiormq.channel import Channel
from tests.integration.common.messaging.harness import DEAD, QUEUE, command
from tests.support.management import Management
from tests.support.proxy import Proxy, silent_server
from tests.support.vhosts import Vhost
from tests.support.waiting import eventually

from taskbell.errors import BrokerUnavailable, PublishTimeout, TopologyMissing, Unroutable
from taskbell.messaging.publishing.confirms import confirmed
from taskbell.messaging.publishing.outgoing import Outgoing
from taskbell.messaging.publishing.publisher import WINDOW, Publisher
from taskbell.setup.broker import declare

COMMANDS = "taskbell.commands"


@pytest_asyncio.fixture
async def publisher(module_broker_url: str) -> AsyncIterator[Publisher]:
    publisher = Publisher(module_broker_url, name="test publish")
    yield publisher
    await publisher.close()


@pytest_asyncio.fixture
async def proxy(module_broker_url: str) -> AsyncIterator[Proxy]:
    async with Proxy(module_broker_url) as proxy:
        yield proxy


@pytest_asyncio.fixture
async def proxied(proxy: Proxy) -> AsyncIterator[Publisher]:
    publisher = Publisher(proxy.url, name="test publish", timeout=5)
    yield publisher
    await publisher.close()


@pytest_asyncio.fixture(autouse=True)
async def _queues_are_empty(module_management: Management) -> AsyncIterator[None]:
    yield
    for queue in (QUEUE, DEAD):
        await module_management.call("DELETE", f"/queues/{{vhost}}/{queue}/contents")


def message(name: str, **more: object) -> Outgoing:
    values: dict[str, object] = {"exchange": COMMANDS, "routing_key": QUEUE, "body": command(1), "mandatory": True}
    return Outgoing(message_id=name, **(values | more))  # type: ignore[arg-type]


async def test_what_is_confirmed_lies_in_the_queue_with_all_its_properties(
    publisher: Publisher, module_management: Management
) -> None:
    await publisher.publish(
        message(
            "m-1",
            type="t",
            timestamp=datetime(2026, 11, 20, 7, tzinfo=UTC),
            correlation_id="c",
            reply_to="reply.x",
            headers={"traceparent": "00-ab"},
        )
    )
    (found,) = await module_management.take(QUEUE)
    assert found.body == command(1)
    properties = dict(found.properties)
    assert properties.pop("headers")["traceparent"] == "00-ab"
    assert properties == {
        "content_type": "application/json",
        "correlation_id": "c",
        "delivery_mode": 2,
        "message_id": "m-1",
        "reply_to": "reply.x",
        "timestamp": 1_795_158_000,  # 2026-11-20T07:00:00Z
        "type": "t",
    }


async def test_a_mandatory_message_that_no_queue_is_bound_for_is_told(publisher: Publisher) -> None:
    with pytest.raises(
        Unroutable, match=r"no queue is bound for 'maintenance.nothing' at exchange 'taskbell.commands'"
    ):
        await publisher.publish(message("m-1", routing_key="maintenance.nothing"))
    await publisher.publish(message("m-2", routing_key="maintenance.nothing", mandatory=False))
    await publisher.publish(message("m-3"))


async def test_of_two_unroutable_messages_with_one_id_neither_is_taken_for_confirmed(publisher: Publisher) -> None:
    errors = await publisher.publish_all([message("same", routing_key="maintenance.nothing") for _ in range(5)])
    assert [type(error) for error in errors] == [Unroutable] * 5


async def test_a_missing_exchange_is_told_and_the_next_message_goes_out(publisher: Publisher) -> None:
    with pytest.raises(TopologyMissing, match="exchange 'nowhere' is missing: run `taskbell setup`"):
        await publisher.publish(message("m-1", exchange="nowhere"))
    await publisher.publish(message("m-2"))


async def test_a_missing_exchange_is_not_blamed_on_the_messages_beside_it(publisher: Publisher) -> None:
    for _ in range(20):
        messages = [message(f"m-{number}") for number in range(20)]
        messages.insert(3, message("lost", exchange="nowhere"))
        errors = await publisher.publish_all(messages)
        assert isinstance(errors.pop(3), TopologyMissing)
        # The broker closed their channel: they may be told that, and are published again. Nothing of theirs is missing.
        assert not any(isinstance(error, TopologyMissing) for error in errors)
        assert all(error is None or isinstance(error, BrokerUnavailable) for error in errors)
        await publisher.publish(message("after"))


async def test_where_its_user_may_not_write_is_told_with_the_remedy(
    module_vhost: Vhost, module_management: Management
) -> None:
    user = module_vhost.name
    await module_management.call("PUT", f"/users/{user}", {"password": "pw", "tags": ""})
    try:
        rights = {"configure": "", "write": "^taskbell\\.events$", "read": ""}
        await module_management.call("PUT", f"/permissions/{{vhost}}/{user}", rights)
        host = module_vhost.url.rpartition("@")[2]
        publisher = Publisher(f"amqp://{user}:pw@{host}", name="test publish")
        with pytest.raises(TopologyMissing, match=r"access to exchange 'taskbell.commands'.*run `taskbell setup`"):
            await publisher.publish(message("m-1"))
        with pytest.raises(TopologyMissing, match=r"access to exchange 'amq.default'"):
            await publisher.publish(message("m-2", exchange=""))
        await publisher.publish(
            message("m-3", exchange="taskbell.events", routing_key="tasks.archived", mandatory=False)
        )
        await publisher.close()
    finally:
        await module_management.call("DELETE", f"/users/{user}")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("amqp://guest:guest@127.0.0.1:1/", "RabbitMQ: .*: it does not run there, or BROKER_URL names another place"),
        ("amqp://guest:wrong@{host}/", r"RabbitMQ: ACCESS_REFUSED.*: check user and password in BROKER_URL"),
        ("amqp://{login}@{host}/nowhere", "RabbitMQ: the virtual host in BROKER_URL does not exist, or its user"),
    ],
)
async def test_a_broker_that_cannot_be_used_is_told(module_broker_url: str, url: str, words: str) -> None:
    login, _, rest = module_broker_url.removeprefix("amqp://").rpartition("@")
    publisher = Publisher(url.format(login=login, host=rest.partition("/")[0]), name="test publish")
    with pytest.raises(BrokerUnavailable, match=words):
        await publisher.publish(message("m-1"))
    with pytest.raises(BrokerUnavailable, match=words):
        await publisher.connect()
    await publisher.close()


async def test_a_broker_that_never_answers_costs_no_more_than_the_limit() -> None:
    async with silent_server() as url:
        publisher = Publisher(url, name="test publish", timeout=0.3)
        started = time.monotonic()
        with pytest.raises(BrokerUnavailable, match=r"RabbitMQ did not answer within 0.3 s") as caught:
            await publisher.publish(message("m-1"))
        assert not isinstance(caught.value, PublishTimeout)
        assert time.monotonic() - started >= 0.3
        await publisher.close()


async def test_a_broker_that_falls_silent_is_given_up_and_another_connection_is_made(
    proxy: Proxy, module_management: Management
) -> None:
    publisher = Publisher(proxy.url, name="test publish", timeout=0.5)
    await publisher.publish(message("m-1"))
    proxy.hold()
    with pytest.raises(PublishTimeout, match=r"RabbitMQ did not confirm within 0.5 s"):
        await publisher.publish(message("m-2"))
    assert proxy.accepted == 1
    with pytest.raises(BrokerUnavailable):
        await publisher.publish(message("m-3"))
    proxy.release()
    await eventually(lambda: _published(publisher, "m-4"))
    assert proxy.accepted >= 2
    await publisher.close()


async def _published(publisher: Publisher, name: str) -> bool:
    try:
        await publisher.publish(message(name))
    except BrokerUnavailable:
        return False
    return True


async def test_a_connection_lost_while_nothing_is_under_way_is_made_anew_at_the_next_publish(
    proxied: Publisher, proxy: Proxy
) -> None:
    await proxied.publish(message("m-1"))
    proxy.cut()
    channel = proxied._channel
    assert channel is not None
    await eventually(lambda: channel.is_closed)
    await proxied.publish(message("m-2"))
    assert proxy.accepted == 2


async def test_a_connection_lost_in_the_middle_is_told_to_all_that_wait_and_only_to_them(
    proxied: Publisher, proxy: Proxy
) -> None:
    await proxied.publish(message("m-0"))
    proxy.hold()
    under_way = asyncio.create_task(proxied.publish_all([message(f"m-{number}") for number in range(1, 51)]))
    await proxy.held.wait()
    proxy.cut()
    proxy.release()
    errors = await under_way
    assert {type(error) for error in errors} == {BrokerUnavailable}
    await eventually(lambda: _published(proxied, "after"))


async def test_what_fails_late_does_not_take_down_the_connection_that_came_after(
    proxied: Publisher, proxy: Proxy
) -> None:
    await proxied.publish(message("m-0"))
    old = proxied._channel
    proxy.cut()
    await eventually(lambda: old is not None and old.is_closed)
    await proxied.publish(message("m-1"))
    newer = proxied._connection
    proxied._discard(old)
    assert proxied._connection is newer
    await proxied.publish(message("m-2"))
    assert proxied._connection is newer
    assert proxy.accepted == 2


async def test_a_rejection_from_within_the_client_is_no_cancellation_of_ours(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """aiormq rejects what waits with a CancelledError when it gives up a connection."""
    await publisher.connect()
    assert publisher._channel is not None

    def rejected() -> asyncio.Future[None]:
        link: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        link.cancel()
        return link

    monkeypatch.setattr(publisher._channel, "create_future", rejected)
    with pytest.raises(BrokerUnavailable, match="the connection was lost"):
        await publisher.publish(message("m-1"))
    await publisher.publish(message("m-2"))


@pytest.mark.parametrize("word", [Exception, asyncio.CancelledError])
async def test_a_channel_that_aiormq_rejects_without_a_reason_is_a_lost_connection(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch, word: type[BaseException]
) -> None:
    """Seen when a connection breaks between its own opening and its first channel's."""

    async def rejected(*_: object, **__: object) -> object:
        raise word

    with monkeypatch.context() as broken:
        broken.setattr(aiormq.Connection, "channel", rejected)
        for use in (publisher.publish(message("m")), publisher.connect()):
            with pytest.raises(BrokerUnavailable, match="the connection was lost"):
                await use
    await publisher.publish(message("m"))


async def test_wherever_a_connection_breaks_it_is_told_as_one(proxied: Publisher, proxy: Proxy) -> None:
    async def use(number: int) -> None:
        with suppress(BrokerUnavailable):
            await (proxied.connect() if number % 3 == 0 else proxied.publish(message(f"m-{number}")))

    async def goes_out_again() -> bool:
        try:
            await proxied.publish(message("last"))
        except BrokerUnavailable:  # the last cut may be noticed only now
            return False
        return True

    for cut in range(100):
        users = [asyncio.create_task(use(cut * 5 + number)) for number in range(5)]
        await asyncio.sleep(cut / 10_000)  # later each time, up to 10 ms: opening and publishing take a few
        proxy.cut()
        await asyncio.gather(*users)
    await eventually(goes_out_again)


async def test_a_caller_that_is_cancelled_is_cancelled(proxied: Publisher, proxy: Proxy) -> None:
    await proxied.publish(message("m-0"))
    proxy.hold()
    under_way = asyncio.create_task(proxied.publish(message("m-1")))
    await proxy.held.wait()
    under_way.cancel()
    with pytest.raises(asyncio.CancelledError):
        await under_way
    proxy.release()
    await proxied.publish(message("m-2"))


async def test_many_are_published_in_windows_and_each_gets_its_own_answer(
    publisher: Publisher, module_management: Management
) -> None:
    count = 2 * WINDOW + 10
    unroutable = {0, WINDOW - 1, WINDOW, count - 1}
    messages = [
        message(f"m-{number}", routing_key="maintenance.nothing" if number in unroutable else QUEUE)
        for number in range(count)
    ]
    errors = await publisher.publish_all(messages)
    assert {number for number, error in enumerate(errors) if isinstance(error, Unroutable)} == unroutable
    assert sum(error is None for error in errors) == count - 4
    assert (await module_management.depth(QUEUE)).ready == count - 4
    assert await publisher.publish_all([]) == []


async def test_never_more_than_a_window_is_under_way(publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    now = most = 0

    async def counted(channel: Channel, messages: Mapping[str, bytes], deadline: float) -> object:
        nonlocal now, most
        now += len(messages)
        most = max(most, now)
        try:
            return await confirmed(channel, messages, deadline)
        finally:
            now -= len(messages)

    monkeypatch.setattr("taskbell.messaging.publishing.publisher.confirmed", counted)
    await publisher.publish_all([message(f"m-{number}") for number in range(3 * WINDOW)])
    assert most == WINDOW


@pytest.mark.parametrize(
    "more",
    [
        {"message_id": ""},
        {"message_id": "x" * 256},
        {"correlation_id": "ü" * 128},
        {"routing_key": "x" * 256},
        {"headers": {"x": object()}},
        {"headers": {"x": 1e300}},
        {"type": "\udc80"},
    ],
)
async def test_what_amqp_cannot_carry_is_told_and_disturbs_nobody(
    publisher: Publisher, more: dict[str, object]
) -> None:
    await publisher.publish(message("m-0"))
    connection = publisher._connection
    name = str(more.pop("message_id", "m-1"))
    with pytest.raises(ValueError, match=r".+"):
        await publisher.publish(message(name, **more))
    await publisher.publish(message("m-2"))
    assert publisher._connection is connection


async def test_closed_it_opens_again_when_it_is_needed(publisher: Publisher) -> None:
    await publisher.publish(message("m-1"))
    await publisher.close()
    await publisher.close()
    await publisher.publish(message("m-2"))


async def test_closing_tells_those_that_still_wait(proxied: Publisher, proxy: Proxy) -> None:
    await proxied.publish(message("m-0"))
    proxy.hold()
    under_way = asyncio.create_task(proxied.publish(message("m-1")))
    await proxy.held.wait()
    await proxied.close()
    with pytest.raises(BrokerUnavailable):
        await under_way


async def test_one_connection_serves_any_number_of_tasks(proxied: Publisher, proxy: Proxy) -> None:
    await asyncio.gather(*(proxied.publish(message(f"m-{number}")) for number in range(100)))
    assert proxy.accepted == 1


async def test_a_channel_is_prepared_before_anything_is_published_on_it(module_broker_url: str) -> None:
    prepared: list[object] = []

    async def prepare(channel: aiormq.abc.AbstractChannel) -> None:
        await asyncio.sleep(0)
        prepared.append(channel)

    publisher = Publisher(module_broker_url, name="test publish", prepare=prepare)
    channels = await asyncio.gather(*(publisher.send(message(f"m-{number}")) for number in range(5)))
    assert [set(map(id, channels))] == [{id(prepared[0])}]
    assert len(prepared) == 1
    await publisher.close()


async def test_a_queue_that_is_deleted_while_it_publishes_turns_success_into_unroutable(vhost: Vhost) -> None:
    publisher = Publisher(vhost.url, name="test publish")
    await publisher.publish(message("m-1"))
    await vhost.management.call("DELETE", f"/queues/{{vhost}}/{QUEUE}")
    with pytest.raises(Unroutable):
        await publisher.publish(message("m-2"))
    await declare(vhost.url)
    await publisher.publish(message("m-3"))
    await publisher.close()
