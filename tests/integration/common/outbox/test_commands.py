"""Commands take effect once, and whoever asked is answered."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import aiormq
import pytest
import pytest_asyncio
from aiormq.abc import DeliveredMessage
from tests.integration.common.messaging.harness import QUEUE, ConsumingHarness
from tests.support import received as support
from tests.support.management import Management
from tests.support.vhosts import Vhost
from tests.support.waiting import eventually

from taskbell.commands import CommandLog, Outcome, Replies
from taskbell.contracts import CommandOutcome, UpdateTaskStatus
from taskbell.database import Database, Transaction
from taskbell.errors import DatabaseUnavailable, Never, Overtaken
from taskbell.messaging.consuming.delivery import Envelope, Received
from taskbell.messaging.consuming.subscription import Subscription
from taskbell.messaging.publishing.outgoing import Outgoing
from taskbell.messaging.publishing.publisher import Publisher

Command = Received[UpdateTaskStatus]


def envelope(message_id: str, **changes: Any) -> Envelope:
    return support.envelope(QUEUE, "taskbell.commands", QUEUE, message_id, **changes)


def command(number: int, message_id: str | None = None, **changes: Any) -> Command:
    body = UpdateTaskStatus.parse(f'{{"task_id": {number}, "new_status": "done"}}'.encode())
    return Received(body, envelope(message_id or f"m-{number}", **changes))


class CommandRunner:
    """Counts effects in a table of its own, in the command's transaction."""

    def __init__(self, database: Database, publisher: Publisher) -> None:
        self.database = database
        self.replies = Replies(publisher)
        self.log = CommandLog(database, self.replies)
        self.sets: list[list[str]] = []
        self.outcome: Outcome | None = None
        self.error: Exception | None = None

    async def apply(self, transaction: Transaction, commands: Sequence[Command]) -> Sequence[Outcome]:
        self.sets.append([each.message_id for each in commands])
        await transaction.execute(
            "INSERT INTO public.projects (name) VALUES (:name)", [{"name": str(each.body.task_id)} for each in commands]
        )
        if self.error is not None:
            raise self.error
        return [self.outcome or Outcome.done(task_id=each.body.task_id) for each in commands]

    async def run(self, *commands: Command) -> None:
        await self.log.run(commands, self.apply)

    async def handle(self, commands: Sequence[Command]) -> None:
        await self.run(*commands)

    async def effects(self) -> list[str]:
        async with self.database.transaction() as transaction:
            return [row.name for row in await transaction.rows("SELECT name FROM public.projects ORDER BY name")]

    async def rows(self) -> Sequence[Any]:
        async with self.database.transaction() as transaction:
            return await transaction.rows("SELECT *, body::text AS b, result::text AS r FROM taskbell.command")

    async def stored(self) -> dict[str, Any]:
        """By message_id; of those under one id, the command that it belongs to."""
        return {row.message_id: row for row in sorted(await self.rows(), key=lambda row: row.body is not None)}


@pytest_asyncio.fixture
async def reply_queue(module_management: Management) -> str:
    """A queue that replies may go to."""
    name = f"reply.{uuid4().hex}"
    await module_management.call("PUT", f"/queues/{{vhost}}/{name}", {"durable": True})
    return name


async def replies(management: Management, queue: str, count: int) -> list[Any]:
    async def enough() -> bool:
        return (await management.depth(queue)).ready >= count

    await eventually(enough)
    return await management.take(queue)


async def test_delivered_five_times_it_takes_effect_once(runner: CommandRunner) -> None:
    for _ in range(5):
        await runner.run(command(7))
    assert await runner.effects() == ["7"]
    row = (await runner.stored())["m-7"]
    assert (row.state, row.routing_key, row.reason, row.attempts) == ("done", QUEUE, None, 1)
    assert json.loads(row.b) == {"task_id": 7, "new_status": "done"}
    assert json.loads(row.r) == {"task_id": 7}


async def test_delivered_five_times_at_once_it_takes_effect_once(runner: CommandRunner) -> None:
    await asyncio.gather(*(runner.run(command(7)) for _ in range(5)))
    assert await runner.effects() == ["7"]


async def test_twice_in_one_set_it_takes_effect_once_and_both_are_answered(
    runner: CommandRunner, module_management: Management, reply_queue: str
) -> None:
    await runner.run(command(1), command(7, reply_to=reply_queue), command(7, reply_to=reply_queue), command(2))
    assert await runner.effects() == ["1", "2", "7"]
    assert runner.sets == [["m-1", "m-7", "m-2"]]
    assert len(await replies(module_management, reply_queue, 2)) == 2


@pytest.mark.parametrize("message_id", ["m" * 255, "ö" * 127, "m" + "ö" * 127], ids=["ascii", "254 bytes", "255 bytes"])
async def test_the_longest_ids_are_answered_too(
    runner: CommandRunner, module_management: Management, reply_queue: str, message_id: str
) -> None:
    await runner.run(command(7, message_id, reply_to=reply_queue))
    (reply,) = await replies(module_management, reply_queue, 1)
    assert json.loads(reply.body)["message_id"] == message_id


async def test_sets_that_overlap_in_any_order_wait_for_each_other_and_neither_is_lost(runner: CommandRunner) -> None:
    numbers = list(range(1, 21))
    sets = [[command(number) for number in order] for order in (numbers, numbers[::-1], numbers[10:] + numbers[:10])]
    await asyncio.gather(*(runner.run(*each) for each in sets))
    assert await runner.effects() == sorted(str(number) for number in numbers)


@pytest.mark.parametrize(
    "outcome", [Outcome.done(old_status="pending"), Outcome.unchanged(), Outcome.rejected("no such task", task_id=7)]
)
async def test_what_is_final_is_answered_again_as_it_was_stored_and_not_run(
    runner: CommandRunner, outcome: Outcome, module_management: Management, reply_queue: str
) -> None:
    runner.outcome = outcome
    await runner.run(command(7, reply_to=reply_queue, correlation_id="c-7"))
    runner.outcome = Outcome.done(it="ran again")
    await runner.run(command(7, reply_to=reply_queue, correlation_id="c-8"))
    assert len(runner.sets) == 1

    first, second = sorted(
        await replies(module_management, reply_queue, 2), key=lambda reply: reply.properties["correlation_id"]
    )
    assert first.body == second.body
    told = CommandOutcome.parse(first.body)
    assert (told.message_id, told.state, told.reason) == ("m-7", outcome.state, outcome.reason)
    assert dict(told.result or {}) == dict(outcome.result or {})
    assert (first.properties["correlation_id"], second.properties["correlation_id"]) == ("c-7", "c-8")
    assert first.properties["type"] == "command.outcome"


async def test_what_fails_leaves_neither_effect_nor_row_and_runs_again(runner: CommandRunner) -> None:
    runner.error = ValueError("a bug")
    with pytest.raises(ValueError, match="a bug"):
        await runner.run(command(7))
    assert (await runner.effects(), await runner.stored()) == ([], {})
    runner.error = None
    await runner.run(command(7))
    assert await runner.effects() == ["7"]


async def test_failed_means_dead_lettered_and_delivered_again_it_runs_again(
    runner: CommandRunner, module_management: Management, reply_queue: str
) -> None:
    dead = command(7, attempt=3, reply_to=reply_queue)
    await runner.log.fail(dead, "failed 4 times; at last: ValueError: a bug")
    row = (await runner.stored())["m-7"]
    assert (row.state, row.reason, row.attempts) == ("failed", "failed 4 times; at last: ValueError: a bug", 4)
    (reply,) = await replies(module_management, reply_queue, 1)
    assert reply.json() == {
        "message_id": "m-7",
        "state": "failed",
        "reason": "failed 4 times; at last: ValueError: a bug",
    }

    await runner.run(command(7))
    assert await runner.effects() == ["7"]
    row = (await runner.stored())["m-7"]
    assert (row.state, row.reason) == ("done", None)


async def test_a_late_failure_does_not_overwrite_what_is_final(runner: CommandRunner) -> None:
    await runner.run(command(7))
    await runner.log.fail(command(7), "too late")
    assert (await runner.stored())["m-7"].state == "done"


async def test_what_does_not_validate_is_stored_and_answered_as_rejected(
    runner: CommandRunner, module_management: Management, reply_queue: str
) -> None:
    await runner.log.refuse([(envelope("m-9", reply_to=reply_queue), "task_id: Field required")])
    row = (await runner.stored())["m-9"]
    assert (row.state, row.reason, row.body) == ("rejected", "task_id: Field required", None)
    (reply,) = await replies(module_management, reply_queue, 1)
    assert reply.json() == {"message_id": "m-9", "state": "rejected", "reason": "task_id: Field required"}


async def test_many_that_do_not_validate_are_refused_together(
    runner: CommandRunner, module_management: Management, reply_queue: str
) -> None:
    await runner.run(command(7))
    ids = ["m-3", "m-1", "m-7", "m-1"]
    for _ in range(2):  # each comes again
        await runner.log.refuse([(envelope(it, reply_to=reply_queue), f"reason {n}") for n, it in enumerate(ids)])
    rows = {(row.message_id, row.state, row.reason, row.attempts) for row in await runner.rows()}
    assert rows == {
        ("m-1", "rejected", "reason 1", 2),
        ("m-1", "rejected", "reason 3", 2),
        ("m-3", "rejected", "reason 0", 2),
        ("m-7", "done", None, 1),
        ("m-7", "rejected", "reason 2", 2),
    }
    told = [reply.json() for reply in await replies(module_management, reply_queue, 8)]
    assert {(it["message_id"], it["state"], it["reason"]) for it in told} == {it[:3] for it in rows if it[2]}


async def test_what_does_not_validate_does_not_overwrite_what_is_final(runner: CommandRunner) -> None:
    await runner.run(command(7))
    await runner.log.refuse([(envelope("m-7"), "task_id: Field required")])
    assert (await runner.stored())["m-7"].state == "done"


async def test_of_two_that_both_believe_to_be_the_first_one_is_rolled_back_and_both_are_answered(
    runner: CommandRunner, module_management: Management, reply_queue: str
) -> None:
    both = asyncio.Barrier(2)
    apply = runner.apply

    async def together(transaction: Transaction, given: Sequence[Command]) -> Sequence[Outcome]:
        outcomes = await apply(transaction, given)
        await both.wait()
        return outcomes

    runner.apply = together  # type: ignore[method-assign, assignment]
    asked = command(7, reply_to=reply_queue)
    await asyncio.gather(runner.run(asked), runner.run(asked))
    assert runner.sets == [["m-7"], ["m-7"]]
    assert await runner.effects() == ["7"]
    told = [reply.json()["state"] for reply in await replies(module_management, reply_queue, 2)]
    assert told == ["done", "done"]


async def test_who_is_overtaken_again_and_again_waits_in_the_retry_queues(
    runner: CommandRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(*_: object) -> int:
        return 0

    monkeypatch.setattr(CommandLog, "_store", nothing)
    with pytest.raises(Overtaken):
        await runner.run(command(7))
    assert (len(runner.sets), await runner.effects()) == (5, [])


async def test_long_commands_keep_their_place_from_begin_to_finish(runner: CommandRunner) -> None:
    done, unchanged = command(1), command(2)
    async with runner.database.transaction() as transaction:
        assert await runner.log.begin(transaction, done) is None
        await runner.log.finish(transaction, [(done, Outcome.done(tasks=3)), (unchanged, Outcome.unchanged())])
    async with runner.database.transaction() as transaction:
        assert await runner.log.begin(transaction, done) == Outcome("done", {"tasks": 3})
        assert await runner.log.begin(transaction, unchanged) == Outcome("unchanged", {})
        assert await runner.log.begin(transaction, command(3)) is None


async def test_replies_go_to_queues_made_for_them_and_to_no_others(
    runner: CommandRunner, module_vhost: Vhost, module_management: Management, reply_queue: str
) -> None:
    ours = ["notifier.send_batch", "maintenance.dead", "taskbell.retry.10s", "anything", "amq.gen", "Reply.x", ""]
    for number, queue in enumerate(ours, 1):
        await runner.run(command(number, reply_to=queue or None))
    await runner.run(command(100, reply_to=reply_queue))
    assert len(await replies(module_management, reply_queue, 1)) == 1
    for queue in ("notifier.send_batch", "maintenance.dead", "taskbell.retry.10s"):
        assert (await module_management.depth(queue)).ready == 0


async def test_a_reply_to_nowhere_harms_nothing(runner: CommandRunner) -> None:
    for number, queue in enumerate(["reply.nobody", "amq.gen-gone", "amq.rabbitmq.reply-to.gone.x"], 1):
        await runner.run(command(number, reply_to=queue))
    await runner.replies.close()
    assert await runner.effects() == ["1", "2", "3"]


async def test_a_reply_that_cannot_go_out_harms_nothing(database: Database) -> None:
    runner = CommandRunner(database, Publisher("amqp://guest:guest@127.0.0.1:1/", name="test replies", timeout=1))
    await runner.run(command(1, reply_to="reply.x"))
    await runner.replies.close()
    assert await runner.effects() == ["1"]


async def test_replies_that_pile_up_are_dropped_rather_than_kept(
    runner: CommandRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    from taskbell import commands as module

    monkeypatch.setattr(module, "MAX_REPLIES", 3)
    held = asyncio.Event()

    async def slow(_: Publisher, __: Outgoing) -> None:
        await held.wait()

    monkeypatch.setattr(Publisher, "publish", slow)
    for number in range(10):
        runner.log.reply(envelope(f"m-{number}", reply_to="reply.x"), Outcome.unchanged())
    assert len(runner.replies._sending) == 3
    held.set()


async def test_a_caller_on_direct_reply_to_gets_the_outcome(
    runner: CommandRunner, module_vhost: Vhost, module_management: Management
) -> None:
    harness = ConsumingHarness(module_vhost.url, module_management)
    await harness.consume(
        Subscription(
            QUEUE, UpdateTaskStatus, runner.handle, batch=10, on_invalid=runner.log.refuse, on_dead=runner.log.fail
        )
    )
    connection = await aiormq.connect(module_vhost.url)
    channel = await connection.channel()
    answers: asyncio.Queue[DeliveredMessage] = asyncio.Queue()
    await channel.basic_consume("amq.rabbitmq.reply-to", answers.put, no_ack=True)
    for body, message_id in ((b'{"task_id": 7, "new_status": "done"}', "good"), (b"{}", "bad")):
        properties = aiormq.spec.Basic.Properties(
            message_id=message_id, correlation_id=f"c-{message_id}", reply_to="amq.rabbitmq.reply-to"
        )
        await channel.basic_publish(body, exchange="taskbell.commands", routing_key=QUEUE, properties=properties)
    told = {}
    for _ in range(2):
        answer = await asyncio.wait_for(answers.get(), 30)
        told[answer.header.properties.correlation_id] = CommandOutcome.parse(answer.body)
    assert (told["c-good"].state, told["c-good"].result) == ("done", {"task_id": 7})
    assert (told["c-bad"].state, told["c-bad"].reason) == (
        "rejected",
        "task_id: Field required; new_status: Field required",
    )
    await connection.close()
    await harness.close()
    await module_management.take("maintenance.dead")


async def test_whatever_is_shuffled_and_repeated_each_command_takes_effect_once(
    runner: CommandRunner, module_vhost: Vhost, module_management: Management
) -> None:
    harness = ConsumingHarness(module_vhost.url, module_management)
    numbers = [number for number in range(1, 101) for _ in range(5)]
    import random

    random.Random(4711).shuffle(numbers)
    messages = [
        Outgoing("taskbell.commands", QUEUE, f'{{"task_id": {number}, "new_status": "done"}}'.encode(), f"m-{number}")
        for number in numbers
    ]
    assert await harness.publisher.publish_all(messages) == [None] * 500
    subscription = Subscription(QUEUE, UpdateTaskStatus, runner.handle, batch=20, workers=3, prefetch=100)
    await harness.consume(subscription)
    await eventually(lambda: _counted(harness, 500), limit=60)
    await harness.close()
    assert sorted(await runner.effects()) == sorted(str(number) for number in range(1, 101))


def _counted(harness: ConsumingHarness, count: int) -> bool:
    done = harness.metrics.registry.get_sample_value("taskbell_messages_total", {"queue": QUEUE, "fate": "done"})
    return done == count


async def test_a_database_that_is_away_is_not_taken_for_a_refusal(
    runner: CommandRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> Any:
        raise DatabaseUnavailable("connection refused")

    monkeypatch.setattr(Database, "_open", away)
    with pytest.raises(DatabaseUnavailable):
        await runner.run(command(7))
    with pytest.raises(DatabaseUnavailable):
        await runner.log.refuse([(envelope("m-9"), "x")])
    assert not issubclass(DatabaseUnavailable, Never)
