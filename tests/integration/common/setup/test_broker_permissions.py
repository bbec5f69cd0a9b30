"""What each role may do on the broker, tried on a real one: the tables below are written by hand.

A denial is RabbitMQ's 403, ACCESS_REFUSED, and nothing else. It closes the channel: each try has one of its own.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

import aiormq
import pytest
import pytest_asyncio
from aiormq.abc import AbstractChannel, AbstractConnection
from tests.support.roles import NAMES, Roles
from tests.support.waiting import eventually

from taskbell.contracts import CATALOGUE, SendBatch
from taskbell.messaging.consuming.delivery import envelope_of, stray
from taskbell.messaging.topology import binding_of, topology

EVENTS, COMMANDS = "taskbell.events", "taskbell.commands"

# Who may publish what. The default exchange has no name: outcomes go through it to queues for replies.
PUBLISHES = """
    exchange             routing_key                          scheduler  notifier  maintenance  app  operator

    taskbell.events      reminder.due                         yes        -         yes          yes  yes
    taskbell.events      overdue.due                          yes        -         yes          yes  yes
    taskbell.events      weekly.due                           yes        -         yes          yes  yes
    taskbell.events      mailing.completed                    yes        yes       -            -    -
    taskbell.events      mail.failed                          yes        yes       -            -    -
    taskbell.events      report.generated                     yes        -         yes          -    -
    taskbell.events      tasks.archived                       yes        -         yes          -    -
    taskbell.events      task.status_changed                  yes        -         yes          -    -
    taskbell.events      no.such.event                        -          -         -            -    -

    taskbell.commands    maintenance.generate_task_report     yes        -         yes          yes  yes
    taskbell.commands    maintenance.cleanup_completed_tasks  yes        -         yes          yes  yes
    taskbell.commands    maintenance.update_task_status       yes        -         yes          yes  yes
    taskbell.commands    notifier.send_test_mail              yes        -         yes          yes  yes
    taskbell.commands    notifier.report_bounce               yes        -         yes          yes  yes
    taskbell.commands    notifier.send_batch                  yes        yes       -            -    -
    taskbell.commands    maintenance.no_such_command          -          -         -            -    -

    taskbell.dead        somewhere.dead                       -          yes       yes          -    -
    taskbell.retry.10s   reply.nobody                         -          yes       yes          -    -
    taskbell.retry.1m    reply.nobody                         -          yes       yes          -    -
    taskbell.retry.10m   reply.nobody                         -          yes       yes          -    -
    (default)            reply.nobody                         -          yes       yes          -    -

    amq.topic            reminder.due                         -          -         -            -    -
    amq.direct           reminder.due                         -          -         -            -    -
    amq.fanout           reminder.due                         -          -         -            -    -
    amq.headers          reminder.due                         -          -         -            -    -
"""

# Who may consume, get and purge.
READS = """
    queue                                 scheduler  notifier  maintenance  app  operator

    notifier.reminder_due                 -          yes       -            -    -
    notifier.overdue_due                  -          yes       -            -    -
    notifier.weekly_due                   -          yes       -            -    -
    notifier.report_generated             -          yes       -            -    -
    notifier.send_test_mail               -          yes       -            -    -
    notifier.report_bounce                -          yes       -            -    -
    notifier.send_batch                   -          yes       -            -    -

    maintenance.generate_task_report      -          -         yes          -    -
    maintenance.cleanup_completed_tasks   -          -         yes          -    -
    maintenance.update_task_status        -          -         yes          -    -

    notifier.dead                         -          -         -            -    yes
    maintenance.dead                      -          -         -            -    yes

    taskbell.retry.10s                    -          -         -            -    -
    taskbell.retry.1m                     -          -         -            -    -
    taskbell.retry.10m                    -          -         -            -    -
"""


Line = tuple[tuple[str, ...], dict[str, bool]]


def lines(table: str, names: int) -> list[Line]:
    """The lines of a table: what their first columns name, and which roles may."""
    head, *found = [line.split() for line in table.splitlines() if line.strip()]
    assert tuple(head[names:]) == NAMES
    return [
        (tuple(it[:names]), {role: may == "yes" for role, may in zip(NAMES, it[names:], strict=True)}) for it in found
    ]


MAY_PUBLISH = lines(PUBLISHES, 2)
MAY_READ = lines(READS, 1)
QUEUES = [queue for (queue,), _ in MAY_READ]
EXCHANGES = list(dict.fromkeys(exchange for (exchange, _), _ in MAY_PUBLISH if exchange.startswith("taskbell.")))

Try = Callable[[AbstractChannel], Awaitable[object]]


@pytest_asyncio.fixture(scope="module")
async def logged_in(roles: Roles) -> AsyncIterator[Mapping[str, AbstractConnection]]:
    """A connection as each role."""
    connections = {role: await aiormq.connect(roles.broker_url(role)) for role in NAMES}
    yield connections
    for connection in connections.values():
        await connection.close()


@asynccontextmanager
async def channel_of(connection: AbstractConnection) -> AsyncIterator[AbstractChannel]:
    channel = await connection.channel(publisher_confirms=True)
    try:
        yield channel
    finally:
        if not channel.is_closed:
            await channel.close()


async def allows(connection: AbstractConnection, status_update: Try) -> bool:
    """Whether the broker lets this user do that."""
    async with channel_of(connection) as channel:
        try:
            await status_update(channel)
        except aiormq.exceptions.ChannelAccessRefused:
            return False
        return True


def publishing(exchange: str, key: str) -> Try:
    name = "" if exchange == "(default)" else exchange
    return lambda channel: channel.basic_publish(b"{}", exchange=name, routing_key=key)


def test_the_tables_have_the_whole_topology_and_every_message() -> None:
    wanted = topology()
    assert set(QUEUES) == {queue.name for queue in wanted.queues}
    assert set(EXCHANGES) == {exchange.name for exchange in wanted.exchanges}
    tried = {key for (exchange, key), _ in MAY_PUBLISH if exchange in (EVENTS, COMMANDS)}
    assert tried - {"no.such.event", "maintenance.no_such_command"} == set(CATALOGUE)


@pytest.mark.parametrize("role", NAMES)
async def test_a_role_publishes_what_the_table_says_and_nothing_else(
    logged_in: Mapping[str, AbstractConnection], role: str
) -> None:
    found = {names: await allows(logged_in[role], publishing(*names)) for names, _ in MAY_PUBLISH}
    assert found == {names: may[role] for names, may in MAY_PUBLISH}


@pytest.mark.parametrize("role", NAMES)
@pytest.mark.parametrize("verb", ["get", "consume", "purge"])
async def test_a_role_reads_the_queues_that_the_table_says_and_no_other(
    logged_in: Mapping[str, AbstractConnection], role: str, verb: str
) -> None:
    def reading(queue: str) -> Try:
        async def read(channel: AbstractChannel) -> None:
            if verb == "get":
                await channel.basic_get(queue)
            elif verb == "purge":
                await channel.queue_purge(queue)
            else:
                started = await channel.basic_consume(queue, _ignored)
                assert started.consumer_tag is not None
                await channel.basic_cancel(started.consumer_tag)

        return read

    found = {queue: await allows(logged_in[role], reading(queue)) for queue in QUEUES}
    assert found == {queue: may[role] for (queue,), may in MAY_READ}


@pytest.mark.parametrize("role", NAMES)
async def test_no_role_configures_the_topology(logged_in: Mapping[str, AbstractConnection], role: str) -> None:
    """The same declarations as setup's are refused too: to declare what is there is to configure it."""
    wanted = topology()
    tries: dict[str, Try] = {
        "a new queue": lambda channel: channel.queue_declare("more", durable=True),
        "a queue that the broker names": lambda channel: channel.queue_declare("", exclusive=True),
        "a new exchange": lambda channel: channel.exchange_declare("more"),
    }
    for queue in wanted.queues:
        name, arguments = queue.name, queue.arguments
        tries |= {
            f"declare {name}": lambda channel, n=name, a=arguments: channel.queue_declare(n, durable=True, arguments=a),
            f"delete {name}": lambda channel, n=name: channel.queue_delete(n),
        }
        for exchange in (EVENTS, COMMANDS, "taskbell.dead", "amq.topic"):
            tries |= {
                f"bind {name} to {exchange}": lambda channel, n=name, e=exchange: channel.queue_bind(n, e, "#"),
                f"unbind {name} from {exchange}": lambda channel, n=name, e=exchange: channel.queue_unbind(n, e, "#"),
            }
    for it in wanted.exchanges:
        name, kind = it.name, it.type
        tries |= {
            f"declare {name}": lambda channel, n=name, k=kind: channel.exchange_declare(
                n, exchange_type=k, durable=True
            ),
            f"delete {name}": lambda channel, n=name: channel.exchange_delete(n),
            f"bind {name} to {EVENTS}": lambda channel, n=name: channel.exchange_bind(n, EVENTS, routing_key="#"),
        }
    assert [what for what, status_update in tries.items() if await allows(logged_in[role], status_update)] == []


@pytest.mark.parametrize("role", NAMES)
async def test_every_role_sees_whether_the_topology_is_there(
    logged_in: Mapping[str, AbstractConnection], role: str
) -> None:
    """Services look before they start, and the daily report counts dead letters, without a right to read them."""
    async with channel_of(logged_in[role]) as channel:
        for queue in QUEUES:
            await channel.queue_declare(queue, passive=True)
        for exchange in EXCHANGES:
            await channel.exchange_declare(exchange, passive=True)


@pytest.mark.parametrize("asker", ["app", "operator"])
@pytest.mark.parametrize("service", ["notifier", "maintenance"])
async def test_who_may_read_no_queue_hears_the_outcome_of_a_command_all_the_same(
    roles: Roles, logged_in: Mapping[str, AbstractConnection], asker: str, service: str
) -> None:
    # The key of a command is also the name of its queue.
    name = {"notifier": "notifier.send_test_mail", "maintenance": "maintenance.update_task_status"}[service]
    heard: list[bytes] = []

    async def hear(message: aiormq.abc.DeliveredMessage) -> None:
        heard.append(message.body)

    async with channel_of(logged_in[asker]) as asking, channel_of(logged_in[service]) as answering:
        await answering.queue_purge(name)
        await asking.basic_consume("amq.rabbitmq.reply-to", hear, no_ack=True)
        properties = aiormq.spec.Basic.Properties(reply_to="amq.rabbitmq.reply-to")
        await asking.basic_publish(b"{}", exchange=COMMANDS, routing_key=name, properties=properties)
        command = await answering.basic_get(name, no_ack=True)
        reply_to = command.header.properties.reply_to
        assert reply_to is not None
        await answering.basic_publish(b"done", exchange="", routing_key=reply_to)
        await eventually(lambda: heard == [b"done"], what="the outcome")


@pytest.mark.parametrize("header", ["CC", "BCC"])
async def test_a_copy_past_the_permissions_is_refused_by_the_broker_or_shows_the_key_that_was_allowed(
    logged_in: Mapping[str, AbstractConnection], header: str
) -> None:
    """RabbitMQ 3.10 takes it, so the consumer has to see that it is not its own."""
    queue = CATALOGUE["notifier.send_batch"].queue
    assert queue is not None
    async with channel_of(logged_in["app"]) as publishing, channel_of(logged_in["notifier"]) as consuming:
        await consuming.queue_purge(queue)
        copied = aiormq.spec.Basic.Properties(headers={header: ["notifier.send_batch"]})
        try:
            await publishing.basic_publish(
                b'{"delivery_ids": [1]}', exchange=COMMANDS, routing_key="notifier.send_test_mail", properties=copied
            )
        except aiormq.exceptions.ChannelAccessRefused:
            return
        message = await consuming.basic_get(queue, no_ack=True)
        assert (message.exchange, message.routing_key) == (COMMANDS, "notifier.send_test_mail")
        reason = stray(envelope_of(queue, message), binding_of(queue, SendBatch))
        assert reason is not None
        assert "notifier.send_test_mail" in reason
        await consuming.queue_purge("notifier.send_test_mail")


async def _ignored(message: aiormq.abc.DeliveredMessage) -> None:
    """Takes a message without acknowledging it: it is returned when the channel closes."""
