"""The outbox and its relay: what is committed is published, at least once, and what is not committed never."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from tests.integration.common.messaging.harness import QUEUE
from tests.integration.common.outbox.relay_harness import WEEKLY, RelayHarness, command, ids, ready_in, rows
from tests.support.proxy import Proxy
from tests.support.vhosts import Vhost
from tests.support.waiting import eventually

from taskbell import outbox as module
from taskbell.contracts import ReportGenerated, TaskStatus, UpdateTaskStatus, WeeklyDue
from taskbell.database import Database, Transaction
from taskbell.errors import DatabaseUnavailable, PublishTimeout
from taskbell.messaging.publishing.outgoing import Outgoing
from taskbell.messaging.publishing.publisher import Publisher
from taskbell.outbox import Outbox, OutboxMessage


async def _write_and_fail(harness: RelayHarness) -> None:
    async with harness.database.transaction() as transaction:
        await harness.outbox.add(transaction, [command(1)])
        raise ValueError("no")


async def _published(database: Database, expected: set[str]) -> bool:
    found = {row.owner for row in await rows(database, "owner, published_at") if row.published_at is not None}
    return found == expected


async def test_what_is_committed_is_published_once_as_its_row_says(harness: RelayHarness, vhost: Vhost) -> None:
    harness.start()
    async with harness.database.transaction() as transaction:
        body = UpdateTaskStatus(task_id=7, new_status=TaskStatus.DONE)
        await harness.outbox.add(transaction, [OutboxMessage(body, message_id="m-7", correlation_id="c-7")])
        await transaction.execute("UPDATE taskbell.outbox SET traceparent = '00-ab'")
    await harness.all_published()

    (message,) = await vhost.management.take(QUEUE)
    assert message.json() == {"task_id": 7, "new_status": "done"}
    assert (message.exchange, message.routing_key) == ("taskbell.commands", QUEUE)
    properties = message.properties
    assert (properties["message_id"], properties["correlation_id"]) == ("m-7", "c-7")
    assert (properties["type"], properties["content_type"]) == (QUEUE, "application/json")
    assert message.headers == {"traceparent": "00-ab"}
    (row,) = await rows(
        harness.database, "published_at, attempts, last_error, floor(extract(epoch from created_at))::bigint AS at"
    )
    assert row.published_at is not None
    assert (row.attempts, row.last_error) == (1, None)
    assert properties["timestamp"] == row.at

    await harness.write(8)
    await harness.all_published()
    assert ids(await vhost.management.take(QUEUE)) == ["m-8"], "what is published is not published again"


async def test_what_is_rolled_back_is_never_published(harness: RelayHarness, vhost: Vhost) -> None:
    harness.start()
    with pytest.raises(ValueError, match="no"):
        await _write_and_fail(harness)
    await harness.write(2)
    await harness.all_published()
    assert ids(await vhost.management.take(QUEUE)) == ["m-2"]


async def test_an_id_that_is_there_already_is_the_same_message(harness: RelayHarness) -> None:
    await harness.write(1)
    await harness.write(1, 2)
    assert [row.message_id for row in await rows(harness.database, "message_id")] == ["m-1", "m-2"]
    async with harness.database.transaction() as transaction:
        await harness.outbox.add(transaction, [])
        await harness.outbox.add(transaction, [OutboxMessage(WeeklyDue())])
    assert len((await rows(harness.database, "message_id"))[-1].message_id) == 36


async def test_a_commit_wakes_the_relay_and_a_rollback_does_not(
    harness: RelayHarness, vhost: Vhost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "POLL", 3600.0)
    harness.start()
    await eventually(lambda: harness.state["state"] == "ready")
    with pytest.raises(ValueError, match="no"):
        await _write_and_fail(harness)
    assert not harness.outbox.written.is_set()
    for number in (1, 2, 3):
        await harness.write(number)
        await harness.all_published()
    # Rows written by SQL of one's own wake it, too.
    async with harness.database.transaction() as transaction:
        await transaction.execute(
            "INSERT INTO taskbell.outbox (owner, routing_key, body, message_id)"
            " VALUES ('maintenance', 'weekly.due', '{}', 'w')"
        )
        harness.outbox.wake_after(transaction)
    await harness.all_published()
    assert ids(await vhost.management.take(WEEKLY)) == ["w"]


async def test_rows_that_nobody_tells_of_are_found_within_the_poll(
    open_harness: Callable[..., RelayHarness], database: Database, vhost: Vhost
) -> None:
    harness = open_harness(also=["app"])
    harness.start()
    async with database.transaction() as transaction:
        await transaction.execute("SELECT taskbell.enqueue('weekly.due', '{}', 'from-the-app')")
    await harness.all_published()
    assert ids(await vhost.management.take(WEEKLY)) == ["from-the-app"]


async def test_each_relay_publishes_the_rows_of_its_owners_only(
    open_harness: Callable[..., RelayHarness], database: Database, vhost: Vhost
) -> None:
    harness = open_harness(vhost.url, "notifier")
    async with database.transaction() as transaction:
        for owner in ("scheduler", "notifier", "maintenance", "app"):
            await Outbox(owner).add(transaction, [OutboxMessage(WeeklyDue(), message_id=owner)])
    harness.start()
    await eventually(lambda: _published(database, {"notifier"}))
    await harness.close()
    open_harness(vhost.url, "maintenance", also=["app"]).start()
    await eventually(lambda: _published(database, {"notifier", "maintenance", "app"}))
    assert sorted(ids(await vhost.management.take(WEEKLY))) == ["app", "maintenance", "notifier"]


async def test_of_several_relays_each_row_is_published_by_one(
    open_harness: Callable[..., RelayHarness], vhost: Vhost
) -> None:
    opened_harnesses = [open_harness() for _ in range(3)]
    for harness in opened_harnesses:
        harness.start()
    for start in range(0, 1000, 100):
        await opened_harnesses[start // 100 % 3].write(*range(start, start + 100))
    await opened_harnesses[0].all_published()
    assert sorted(ids(await vhost.management.take(QUEUE, 2000))) == sorted(f"m-{number}" for number in range(1000))


async def test_while_the_broker_is_away_rows_wait_and_then_all_go_out(
    open_harness: Callable[..., RelayHarness], vhost: Vhost
) -> None:
    async with Proxy(vhost.url) as proxy:
        harness = open_harness(proxy.url, timeout=1)
        harness.start()
        await eventually(lambda: harness.state == {"state": "ready"})
        proxy.hold()
        proxy.cut()
        await harness.write(*range(300))
        await eventually(lambda: harness.state["state"] == "waiting")
        assert harness.state["detail"].startswith("RabbitMQ")
        assert await harness.waiting() == 300
        proxy.release()
        await harness.all_published()
        await eventually(lambda: harness.state == {"state": "ready"})
        await harness.close()
    assert set(ids(await vhost.management.take(QUEUE))) == {f"m-{number}" for number in range(300)}


async def test_without_anything_to_publish_a_broker_that_is_away_still_keeps_readiness_red(
    open_harness: Callable[..., RelayHarness],
) -> None:
    harness = open_harness("amqp://guest:guest@127.0.0.1:1/")
    harness.start()
    await eventually(lambda: harness.state.get("detail", "").startswith("RabbitMQ: "))
    assert not harness.health.ready


async def test_connections_that_break_in_the_middle_lose_nothing(
    open_harness: Callable[..., RelayHarness], vhost: Vhost
) -> None:
    async with Proxy(vhost.url) as proxy:
        harness = open_harness(proxy.url)
        harness.start()
        for start in range(0, 500, 50):
            await harness.write(*range(start, start + 50))
            proxy.cut()
        await harness.all_published()
        await harness.close()
    assert set(ids(await vhost.management.take(QUEUE, 5000))) == {f"m-{number}" for number in range(500)}


async def test_what_is_confirmed_but_not_marked_is_published_again_under_its_id(
    harness: RelayHarness, vhost: Vhost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash between the broker's confirm and the commit, made by a statement that fails at that moment."""
    await harness.write(1, 2)
    execute = Transaction.execute
    crashes = 0

    async def crashing(self: Transaction, statement: Any, parameters: Any = None) -> Any:
        nonlocal crashes
        if isinstance(statement, str) and "SET published_at = now()" in statement and crashes < 2:
            crashes += 1
            raise DatabaseUnavailable("the process died here")
        return await execute(self, statement, parameters)

    monkeypatch.setattr(Transaction, "execute", crashing)
    harness.start()
    await harness.all_published()
    assert crashes == 2
    assert ids(await vhost.management.take(QUEUE)) == ["m-1", "m-2"] * 3


async def test_without_the_confirm_no_row_counts_as_published(
    harness: RelayHarness, vhost: Vhost, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_all = Publisher.publish_all

    async def unconfirmed(self: Publisher, messages: Sequence[Outgoing]) -> list[Exception | None]:
        answers = iter(await publish_all(self, [it for it in messages if it.message_id != "m-1"]))
        return [PublishTimeout("no confirm") if it.message_id == "m-1" else next(answers) for it in messages]

    monkeypatch.setattr(Publisher, "publish_all", unconfirmed)
    await harness.write(1, 2)
    harness.start()
    await eventually(lambda: ready_in(vhost, QUEUE))
    await eventually(lambda: harness.state == {"state": "waiting", "detail": "no confirm"})
    found = {row.message_id: row.published_at for row in await rows(harness.database, "message_id, published_at")}
    assert found["m-1"] is None
    assert found["m-2"] is not None
    monkeypatch.undo()
    await harness.all_published()


async def test_while_the_database_is_away_the_relay_waits_at_the_gate(
    harness: RelayHarness, vhost: Vhost, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness.start()
    await eventually(lambda: harness.state == {"state": "ready"})
    asked = 0
    open_ = Database._open

    async def away(*_: object) -> Any:
        nonlocal asked
        asked += 1
        raise DatabaseUnavailable("connection refused")

    monkeypatch.setattr(Database, "_open", away)
    await eventually(lambda: not harness.gate.is_open)
    before = asked
    await eventually(lambda: asked >= before + 3)
    assert not harness.health.ready
    monkeypatch.setattr(Database, "_open", open_)
    await harness.write(1)
    await harness.all_published()
    assert ids(await vhost.management.take(QUEUE)) == ["m-1"]


async def test_it_is_counted_what_waits_and_what_was_published(
    harness: RelayHarness, monkeypatch: pytest.MonkeyPatch, vhost: Vhost
) -> None:
    def sample(name: str, **labels: str) -> float | None:
        return harness.metrics.registry.get_sample_value(name, labels)

    monkeypatch.setattr(module, "COUNT_EVERY", 0.05)
    await vhost.management.call("DELETE", f"/queues/{{vhost}}/{WEEKLY}")
    async with harness.database.transaction() as transaction:
        await harness.outbox.add(transaction, [command(1), command(2), OutboxMessage(WeeklyDue())])
    harness.start()
    await eventually(lambda: sample("taskbell_outbox_waiting", owner="maintenance") == 1)
    assert sample("taskbell_published_total", routing_key=QUEUE) == 2
    assert sample("taskbell_publish_failures_total", error="Unroutable") == 1


async def test_told_to_stop_it_ends_whatever_is_away(open_harness: Callable[..., RelayHarness]) -> None:
    harness = open_harness("amqp://guest:guest@127.0.0.1:1/")
    await harness.write(1)
    harness.start()
    await eventually(lambda: harness.state["state"] == "waiting")
    await asyncio.wait_for(harness.close(), 10)
    assert await harness.waiting() == 1


async def test_a_body_goes_out_with_exactly_the_fields_that_were_set(harness: RelayHarness, vhost: Vhost) -> None:
    harness.start()
    async with harness.database.transaction() as transaction:
        await harness.outbox.add(
            transaction,
            [
                OutboxMessage(WeeklyDue(user_ids=(1, 2)), message_id="a"),
                OutboxMessage(WeeklyDue(user_ids=None, force=True), message_id="b"),
                OutboxMessage(ReportGenerated.parse(b'{"date": "2026-11-20", "as_of": "2026-11-20T07:00:00Z"}'), "r"),
            ],
        )
    await harness.all_published()
    found = {message.properties["message_id"]: message.json() for message in await vhost.management.take(WEEKLY)}
    assert found == {"a": {"user_ids": [1, 2]}, "b": {"user_ids": None, "force": True}}
    (report,) = await vhost.management.take("notifier.report_generated")
    assert report.json() == {"date": "2026-11-20", "as_of": "2026-11-20T07:00:00Z"}
