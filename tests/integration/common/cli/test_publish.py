"""`taskbell publish` on a real broker, and `taskbell commands` on what became of it."""

import asyncpg
import pytest
import pytest_asyncio
from tests.support.command import Done, taskbell
from tests.support.management import Management
from tests.support.responder import QUEUE, status_updates_answered
from tests.support.vhosts import Vhost

DONE = '{"task_id": 1, "new_status": "done"}'


@pytest_asyncio.fixture(autouse=True)
async def _queue_is_empty(module_management: Management) -> None:
    await module_management.take(QUEUE)


@pytest_asyncio.fixture
async def database(module_database_url: str) -> str:
    """A database with one task, and no command."""
    connection = await asyncpg.connect(module_database_url)
    await connection.execute("TRUNCATE taskbell.command, tasks")
    await connection.execute("INSERT INTO tasks (id, title) VALUES (1, 'one')")
    await connection.close()
    return module_database_url


async def test_a_message_arrives_as_it_was_typed(module_broker_url: str, module_management: Management) -> None:
    properties = [
        "--message-id",
        "m1",
        "--property",
        "correlation_id=ticket 5",
        "--property",
        "traceparent=00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    ]
    done = await taskbell("publish", QUEUE, DONE, *properties, BROKER_URL=module_broker_url)
    assert (done.status, done.out, done.err) == (0, "m1\n", "")
    (message,) = await module_management.take(QUEUE)
    assert message.json() == {"task_id": 1, "new_status": "done"}
    assert message.properties["message_id"] == "m1"
    assert message.properties["correlation_id"] == "ticket 5"
    assert message.headers == {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}


async def test_a_body_may_come_on_standard_input_or_be_left_out(
    module_broker_url: str, module_management: Management
) -> None:
    piped = await taskbell("publish", QUEUE, "-", stdin=DONE, BROKER_URL=module_broker_url)
    assert piped.status == 0, piped.err
    empty = await taskbell("publish", "weekly.due", "--json", BROKER_URL=module_broker_url)
    told = empty.json()
    (event,) = await module_management.take("notifier.weekly_due")
    assert event.json() == {}
    assert told == {
        "message_id": event.properties["message_id"],
        "exchange": "taskbell.events",
        "routing_key": "weekly.due",
        "consumer": "notifier",
        "package": "taskbell",
    }


async def test_waiting_tells_the_outcome_and_commands_show_keeps_it(database: str, module_broker_url: str) -> None:
    async with status_updates_answered(database, module_broker_url):
        done = await taskbell(
            "publish", QUEUE, DONE, "--message-id", "m1", "--wait", "60", BROKER_URL=module_broker_url
        )
        unknown = await taskbell(
            "publish", QUEUE, DONE.replace("1", "2"), "--wait", "60", "--json", BROKER_URL=module_broker_url
        )
    assert done.status == 0, done.err
    assert done.out.splitlines()[0] == "m1"
    assert done.out.splitlines()[1].startswith("done: ")

    assert unknown.status == 1
    assert unknown.json()["outcome"] == {"state": "rejected", "result": None, "reason": "task 2 does not exist"}

    shown = (await taskbell("commands", "show", "m1", "--json", DATABASE_URL=database)).json()
    assert shown["body"] == {"task_id": 1, "new_status": "done"}
    assert shown["state"] == "done"
    assert shown["result"] == {"task_id": 1, "old_status": "pending", "new_status": "done"}
    read = await taskbell("commands", "show", "m1", DATABASE_URL=database)
    assert 'body            {"task_id": 1, "new_status": "done"}' in read.out.splitlines()


async def test_another_command_under_the_id_is_told_and_shown_beside_it(database: str, module_broker_url: str) -> None:
    async def asked(body: str) -> Done:
        async with status_updates_answered(database, module_broker_url):
            return await taskbell(
                *("publish", QUEUE, body, "--message-id", "m1", "--wait", "30"), BROKER_URL=module_broker_url
            )

    assert (await asked(DONE)).status == 0
    other = await asked(DONE.replace("1", "2"))
    assert other.status == 1
    assert "this message_id was another message's" in other.out + other.err

    shown = (await taskbell("commands", "show", "m1", "--json", DATABASE_URL=database)).json()
    assert (shown["state"], shown["body"]["task_id"]) == ("done", 1)
    assert [(it["state"], it["reason"], it["body"]["task_id"]) for it in shown["refused"]] == [
        ("rejected", "this message_id was another message's", 2)
    ]
    read = (await taskbell("commands", "show", "m1", DATABASE_URL=database)).out
    assert [line.split()[1] for line in read.splitlines() if line.startswith("state ")] == ["done", "rejected"]
    listed = (await taskbell("commands", "list", "--json", DATABASE_URL=database)).json()
    assert sorted(it["state"] for it in listed) == ["done", "rejected"]


async def test_an_outcome_that_does_not_come_says_how_to_find_out(module_broker_url: str) -> None:
    done = await taskbell("publish", QUEUE, DONE, "--message-id", "m1", "--wait", "5", BROKER_URL=module_broker_url)
    assert done.status == 1
    assert "may still take effect. See `taskbell commands show m1`" in done.err
    assert "Traceback" not in done.err


async def test_commands_are_listed_newest_first_and_filtered(database: str) -> None:
    connection = await asyncpg.connect(database)
    await connection.execute(
        """
        INSERT INTO taskbell.command (message_id, routing_key, state, reason, finished_at) VALUES
            ('old', 'maintenance.generate_task_report', 'done', NULL, '2026-11-20 07:00:05+00'),
            ('new', 'maintenance.update_task_status', 'rejected', E'evil \\x1b[31m\\nreason', '2026-11-21 08:00:00+00')
        """
    )
    await connection.close()

    async def listed(*arguments: str) -> list[str]:
        done = await taskbell("commands", "list", *arguments, "--json", DATABASE_URL=database)
        return [command["message_id"] for command in done.json()]

    assert await listed() == ["new", "old"]
    assert await listed("--limit", "1") == ["new"]
    assert await listed("--state", "done") == ["old"]
    assert await listed("--key", "maintenance.update_task_status") == ["new"]
    assert await listed("--state", "failed") == []

    printed = (await taskbell("commands", "list", DATABASE_URL=database)).out
    assert "2026-11-20 07:00:05 UTC" in printed
    assert "evil \N{REPLACEMENT CHARACTER}[31m reason" in printed
    assert "\x1b" not in printed


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (["commands", "show", "m404"], 1, "no command 'm404' is recorded"),
        (["commands", "list", "--state", "doen"], 2, "a command does not end 'doen'; did you mean 'done'?"),
    ],
)
async def test_what_is_not_there_is_said_so(database: str, arguments: list[str], status: int, sentence: str) -> None:
    done = await taskbell(*arguments, DATABASE_URL=database)
    assert done.status == status
    assert sentence in done.err


async def test_an_empty_list_says_so(database: str) -> None:
    assert (await taskbell("commands", "list", DATABASE_URL=database)).out == "No such command is recorded.\n"


async def test_without_setup_it_says_what_to_run(empty_database_url: str, empty_vhost: Vhost) -> None:
    published = await taskbell("publish", "weekly.due", BROKER_URL=empty_vhost.url)
    assert (published.status, published.err) == (
        1,
        "taskbell: exchange 'taskbell.events' is missing: run `taskbell setup`\n",
    )
    listed = await taskbell("commands", "list", DATABASE_URL=empty_database_url)
    assert (listed.status, listed.err) == (
        2,
        'taskbell: PostgreSQL: relation "taskbell.command" does not exist: run `taskbell setup`\n',
    )


async def test_servers_that_are_down_are_said_so(unused_tcp_port: int) -> None:
    published = await taskbell("publish", "weekly.due", BROKER_URL=f"amqp://u:secret@127.0.0.1:{unused_tcp_port}/")
    listed = await taskbell("commands", "list", DATABASE_URL=f"postgresql://u:secret@127.0.0.1:{unused_tcp_port}/x")
    for done, server in ((published, "RabbitMQ"), (listed, "PostgreSQL")):
        assert done.status == 1
        assert done.err.startswith(f"taskbell: {server}: ")
        assert len(done.err.splitlines()) == 1
        assert "secret" not in done.err
