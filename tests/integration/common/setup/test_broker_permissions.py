"""What each user may do in RabbitMQ: every cell of the matrix below is tried, and every denial is ACCESS_REFUSED.

The matrix is written by hand, so that a change of the permissions has to be meant twice.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

import aiormq
import pytest
import pytest_asyncio
from aiormq.abc import AbstractChannel, AbstractConnection
from aiormq.exceptions import ChannelAccessRefused
from tests.support.roles import ROLES, Logins

from taskbell.contracts import CATALOGUE
from taskbell.messaging.topology import topology

DUE = {"reminder.due", "overdue.due", "weekly.due"}
OUTCOMES = {"report.generated", "tasks.archived", "task.status_changed"}
ANYONES = {
    "maintenance.generate_task_report",
    "maintenance.cleanup_completed_tasks",
    "maintenance.update_task_status",
    "notifier.send_test_mail",
}
EVENTS = DUE | OUTCOMES | {"mailing.completed", "mail.failed"}
COMMANDS = ANYONES | {"notifier.send_batch"}
RETRIES = {"taskbell.retry.10s", "taskbell.retry.1m", "taskbell.retry.10m"}

# What is not here is denied.
MAY_PUBLISH = {
    "scheduler": EVENTS | COMMANDS,  # a schedule may name any of them
    "notifier": {"mailing.completed", "mail.failed", "notifier.send_batch"},
    "maintenance": DUE | OUTCOMES | ANYONES,  # its own, and what comes through the web app's outbox
    "app": DUE | ANYONES,
    "operator": DUE | ANYONES,
}
# Messages on their way back or to the dead, and replies through the default exchange, have no catalogue.
MAY_WRITE = {
    "scheduler": set(),
    "notifier": {"", "taskbell.dead"} | RETRIES,
    "maintenance": {"", "taskbell.dead"} | RETRIES,
    "app": set(),
    "operator": set(),
}
MAY_READ = {
    "scheduler": set(),
    "notifier": {
        "notifier.dead",
        "notifier.reminder_due",
        "notifier.overdue_due",
        "notifier.weekly_due",
        "notifier.report_generated",
        "notifier.send_test_mail",
        "notifier.send_batch",
    },
    "maintenance": {
        "maintenance.dead",
        "maintenance.generate_task_report",
        "maintenance.cleanup_completed_tasks",
        "maintenance.update_task_status",
    },
    "app": set(),
    "operator": {"notifier.dead", "maintenance.dead"},
}

TOPIC_EXCHANGES = ("taskbell.events", "taskbell.commands")
EXCHANGES = [exchange.name for exchange in topology().exchanges]
QUEUES = [queue.name for queue in topology().queues]

Try = Callable[[AbstractChannel], Awaitable[object]]


@pytest.fixture(params=ROLES)
def role(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest_asyncio.fixture
async def connection(role: str, logins: Logins) -> AsyncIterator[AbstractConnection]:
    """A connection of that user."""
    connection = await aiormq.connect(logins.broker[role])
    yield connection
    await connection.close()


async def is_allowed(connection: AbstractConnection, attempt: Try) -> bool:
    """Tries it on a channel of its own, since a denial closes the channel. Any other refusal is an error."""
    channel = await connection.channel(publisher_confirms=True)
    try:
        await attempt(channel)
    except ChannelAccessRefused:
        return False
    await channel.close()  # what was taken and not acknowledged goes back
    return True


def publish(exchange: str, key: str) -> Try:
    return lambda channel: channel.basic_publish(b"{}", exchange=exchange, routing_key=key)


async def allowed(connection: AbstractConnection, attempts: Iterable[tuple[str, Try]]) -> set[str]:
    return {name for name, attempt in attempts if await is_allowed(connection, attempt)}


def test_the_matrix_names_every_message() -> None:
    assert CATALOGUE.keys() == EVENTS | COMMANDS


async def test_a_role_publishes_what_the_matrix_says_and_nothing_else(
    role: str, connection: AbstractConnection
) -> None:
    for exchange, of_kind in (("taskbell.events", EVENTS), ("taskbell.commands", COMMANDS)):
        for_it = await allowed(connection, [(key, publish(exchange, key)) for key in sorted(CATALOGUE)])
        # On the exchange of the other kind, a key would reach nobody.
        assert for_it == MAY_PUBLISH[role] & of_kind, exchange
        assert not await is_allowed(connection, publish(exchange, "unknown.key"))


async def test_a_role_writes_to_other_exchanges_as_the_matrix_says(role: str, connection: AbstractConnection) -> None:
    others = ["", *(name for name in EXCHANGES if name not in TOPIC_EXCHANGES), "amq.topic", "amq.direct", "amq.fanout"]
    assert await allowed(connection, [(name, publish(name, "nowhere")) for name in others]) == MAY_WRITE[role]


async def test_a_role_consumes_and_gets_from_its_queues_alone(role: str, connection: AbstractConnection) -> None:
    async def ignore(_: object) -> None: ...

    gets = [(queue, lambda channel, queue=queue: channel.basic_get(queue)) for queue in QUEUES]
    consumes = [(queue, lambda channel, queue=queue: channel.basic_consume(queue, ignore)) for queue in QUEUES]
    assert await allowed(connection, gets) == MAY_READ[role]
    assert await allowed(connection, consumes) == MAY_READ[role]


async def test_no_role_may_bind_a_queue_to_an_exchange_or_unbind_it(connection: AbstractConnection) -> None:
    for pair in [(queue, exchange, "mine") for queue in QUEUES for exchange in EXCHANGES]:
        assert not await is_allowed(connection, lambda channel, it=pair: channel.queue_bind(*it)), pair
        assert not await is_allowed(connection, lambda channel, it=pair: channel.queue_unbind(*it)), pair


async def test_no_role_may_configure_topology(connection: AbstractConnection) -> None:
    attempts: list[tuple[str, Try]] = [
        ("make a queue", lambda channel: channel.queue_declare("mine")),
        ("make a queue of a service", lambda channel: channel.queue_declare("notifier.mine")),
        ("make a queue that the server names", lambda channel: channel.queue_declare(exclusive=True)),
        ("make an exchange", lambda channel: channel.exchange_declare("mine")),
    ]
    attempts += [(f"delete {it}", lambda channel, it=it: channel.queue_delete(it)) for it in QUEUES]
    attempts += [(f"delete {it}", lambda channel, it=it: channel.exchange_delete(it)) for it in EXCHANGES]
    assert await allowed(connection, attempts) == set()


async def test_every_role_may_ask_whether_the_topology_is_there(connection: AbstractConnection) -> None:
    attempts = [(it, lambda channel, it=it: channel.queue_declare(it, passive=True)) for it in QUEUES]
    assert await allowed(connection, attempts) == set(QUEUES)


async def test_every_role_may_wait_for_a_direct_reply(connection: AbstractConnection) -> None:
    async def ignore(_: object) -> None: ...

    assert await is_allowed(
        connection, lambda channel: channel.basic_consume("amq.rabbitmq.reply-to", ignore, no_ack=True)
    )
