"""A message_id belongs to the message that came first under it."""

from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio
from tests.integration.common.outbox.test_commands import QUEUE, Command, CommandRunner, command, envelope, replies
from tests.support.management import Management
from tests.support.received import received

from taskbell.commands import Outcome
from taskbell.contracts import CleanupCompletedTasks, GenerateTaskReport, UpdateTaskStatus
from taskbell.identity import ANOTHER, digest_of
from taskbell.messaging.consuming.delivery import Received

ROWS = """
    SELECT message_id, routing_key, state, reason, attempts, body::text AS body FROM taskbell.command
    ORDER BY tableoid <> 'taskbell.command'::regclass, received_at
"""


@pytest_asyncio.fixture
async def reply_queue(module_management: Management) -> str:
    """A queue that replies may go to."""
    await module_management.call("PUT", "/queues/{vhost}/reply.identity", {"durable": True})
    return "reply.identity"


async def rows(runner: CommandRunner) -> list[tuple[Any, ...]]:
    """Message_id, routing key, state, reason and attempts; first of those that their message_ids belong to."""
    async with runner.database.transaction() as transaction:
        return [tuple(row[:5]) for row in await transaction.rows(ROWS)]


def asked(body: str, message_id: str = "m", **changes: Any) -> Command:
    return Received(UpdateTaskStatus.parse(body.encode()), envelope(message_id, **changes))


async def test_another_body_under_the_id_is_rejected_and_not_carried_out(
    runner: CommandRunner, module_management: Management, reply_queue: str
) -> None:
    await runner.run(command(1, "m"))
    for _ in range(2):  # and again, when it is delivered again
        await runner.run(command(2, "m", reply_to=reply_queue))
    await runner.run(command(1, "m", reply_to=reply_queue))
    assert await runner.effects() == ["1"]
    assert await rows(runner) == [("m", QUEUE, "done", None, 1), ("m", QUEUE, "rejected", ANOTHER, 2)]
    told = [reply.json() for reply in await replies(module_management, reply_queue, 3)]
    rejected = {"message_id": "m", "state": "rejected", "reason": "this message_id was another message's"}
    assert sorted(told, key=lambda it: it["state"]) == [
        {"message_id": "m", "state": "done", "result": {"task_id": 1}},
        rejected,
        rejected,
    ]


async def test_another_command_under_the_id_is_rejected_though_its_fields_are_equal(runner: CommandRunner) -> None:
    for body in (GenerateTaskReport(), CleanupCompletedTasks()):
        await runner.log.run([received(body, "m")], lambda *_: _done())
    assert [row[1:4] for row in await rows(runner)] == [
        ("maintenance.generate_task_report", "done", None),
        ("maintenance.cleanup_completed_tasks", "rejected", ANOTHER),
    ]


async def _done() -> list[Outcome]:
    return [Outcome.done()]


@pytest.mark.parametrize(
    "body",
    [
        '{"new_status": "done", "task_id": 1}',
        '{"task_id": 1, "new_status": "done", "expected_status": null}',
        '{"task_id": 1, "new_status": "done", "a field": "of tomorrow"}',
        ' {\n"task_id": 1, "new_status": "d\\u006fne"}',
    ],
)
async def test_the_same_fields_are_the_same_command_however_they_are_written(runner: CommandRunner, body: str) -> None:
    await runner.run(asked('{"task_id": 1, "new_status": "done"}'))
    await runner.run(asked(body))
    assert await rows(runner) == [("m", QUEUE, "done", None, 1)]


async def test_in_one_set_the_first_has_the_id(runner: CommandRunner) -> None:
    await runner.run(command(1, "m"), command(2, "m"), command(1, "m"), command(3, "n"))
    assert await runner.effects() == ["1", "3"]
    assert [row[0:4:2] for row in await rows(runner)] == [("m", "done"), ("n", "done"), ("m", "rejected")]


async def test_what_does_not_validate_takes_no_id_away(runner: CommandRunner) -> None:
    await runner.log.refuse([(envelope("m"), "task_id: Field required")])
    await runner.run(command(1, "m"))
    await runner.log.refuse([(envelope("m"), "new_status: Field required")])
    assert await runner.effects() == ["1"]
    assert [row[2:4] for row in await rows(runner)] == [
        ("done", None),
        ("rejected", "task_id: Field required"),
        ("rejected", "new_status: Field required"),
    ]


async def test_what_failed_keeps_its_id(runner: CommandRunner) -> None:
    await runner.log.fail(command(1, "m"), "a bug")
    await runner.run(command(2, "m"))
    assert await runner.effects() == []
    await runner.run(command(1, "m"))
    assert await runner.effects() == ["1"]
    assert [row[2] for row in await rows(runner)] == ["done", "rejected"]


async def test_rows_of_a_former_version_are_anybodys(runner: CommandRunner) -> None:
    """They have no digest; those without a body did not validate, and take no id away."""
    async with runner.database.transaction() as transaction:
        await transaction.execute(f"""
            INSERT INTO taskbell.command (message_id, routing_key, body, state, result, reason) VALUES
                ('valid', '{QUEUE}', CAST('{{}}' AS jsonb), 'done', CAST('{{}}' AS jsonb), NULL),
                ('invalid', '{QUEUE}', NULL, 'rejected', NULL, 'task_id: Field required'),
                ('failed', '{QUEUE}', CAST('{{}}' AS jsonb), 'failed', NULL, 'a bug')
        """)
    await runner.run(command(2, "valid"), command(3, "invalid"), command(4, "failed"))
    assert await runner.effects() == ["3", "4"]
    assert {row[0]: row[2] for row in await rows(runner)} == {"valid": "done", "invalid": "done", "failed": "done"}
    await runner.run(command(5, "invalid"), command(6, "failed"))
    assert await runner.effects() == ["3", "4"]


async def test_the_routing_key_is_that_of_the_queue_whatever_the_message_says(runner: CommandRunner) -> None:
    said = replace(envelope("m"), routing_key="notifier.send_batch")
    await runner.run(Received(command(1).body, said))
    await runner.log.refuse([(said, "task_id: Field required")])
    assert {row[1] for row in await rows(runner)} == {QUEUE}


async def test_a_long_command_whose_id_was_taken_meanwhile_keeps_its_own_outcome(runner: CommandRunner) -> None:
    long = received(CleanupCompletedTasks(), "m")
    await runner.run(command(1, "m"))
    async with runner.database.transaction() as transaction:
        assert await runner.log.end(transaction, long, Outcome.done(tasks=7)) == Outcome.done(tasks=7)
    assert [row[1:3] for row in await rows(runner)] == [
        (QUEUE, "done"),
        ("maintenance.cleanup_completed_tasks", "done"),
    ]


def test_the_digest_is_for_ever() -> None:
    body = UpdateTaskStatus.parse(b'{"requested_by": "ann", "task_id": 1, "new_status": "done"}')
    # SHA-256 of the key, a zero byte and {"new_status":"done","requested_by":"ann","task_id":1}, as sha256sum says it.
    assert digest_of(body) == "d3ffceea5cdca76884dbf6994caeabdc8786966a95991d1ba11a8fde99c9b600"
