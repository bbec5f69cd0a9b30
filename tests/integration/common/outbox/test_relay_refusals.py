"""What the relay does about messages that the broker does not take: they stay, and hold up no others."""

import uuid
from collections.abc import Callable

import pytest
from tests.integration.common.messaging.harness import QUEUE
from tests.integration.common.outbox.relay_harness import INSERT, WEEKLY, RelayHarness, command, ids, ready_in, rows
from tests.support.roles import as_user
from tests.support.vhosts import Vhost
from tests.support.waiting import eventually

from taskbell import outbox as module
from taskbell.contracts import WeeklyDue
from taskbell.database import Database
from taskbell.outbox import OutboxMessage
from taskbell.setup.broker import declare


async def _waits_alone(database: Database, message_id: str) -> bool:
    waiting = [row.message_id for row in await rows(database, "message_id, published_at") if row.published_at is None]
    return waiting == [message_id]


async def test_a_row_whose_message_no_queue_takes_stays_and_the_others_pass_it(
    harness: RelayHarness, vhost: Vhost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SLOWEST", 0.3)
    monkeypatch.setattr(module, "COUNT_EVERY", 0.1)
    await vhost.management.call("DELETE", f"/queues/{{vhost}}/{WEEKLY}")
    async with harness.database.transaction() as transaction:
        await harness.outbox.add(transaction, [OutboxMessage(WeeklyDue(), message_id="stuck"), command(1)])
    harness.start()
    await eventually(lambda: ready_in(vhost, QUEUE))
    why = "no queue is bound for 'weekly.due' at exchange 'taskbell.events'"
    await eventually(lambda: harness.state == {"state": "waiting", "detail": why})

    async def tried_again() -> bool:
        (stuck, _) = await rows(harness.database, "attempts, last_error, published_at")
        assert stuck.published_at is None
        return bool(stuck.attempts >= 3 and stuck.last_error == why)

    await eventually(tried_again)
    assert ids(await vhost.management.take(QUEUE)) == ["m-1"]
    assert harness.state["state"] == "waiting", "as long as it is stuck"

    await declare(vhost.url)
    await harness.all_published()
    await eventually(lambda: harness.state == {"state": "ready"})
    assert ids(await vhost.management.take(WEEKLY)) == ["stuck"]
    (stuck, _) = await rows(harness.database, "last_error, not_before")
    assert (stuck.last_error, stuck.not_before) == (None, None)


async def test_an_outcome_event_that_nobody_listens_to_is_published_all_the_same(harness: RelayHarness) -> None:
    harness.start()
    async with harness.database.transaction() as transaction:
        await transaction.execute(
            "INSERT INTO taskbell.outbox (owner, routing_key, body, message_id)"
            " VALUES ('maintenance', 'tasks.archived', '{}', 'x')"
        )
    await harness.all_published()


async def test_a_missing_exchange_stops_only_what_goes_there(
    harness: RelayHarness, vhost: Vhost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SLOWEST", 0.3)
    await vhost.management.call("DELETE", "/exchanges/{vhost}/taskbell.events")
    async with harness.database.transaction() as transaction:
        for number in range(5):
            await harness.outbox.add(
                transaction, [OutboxMessage(WeeklyDue(), message_id=f"w-{number}"), command(number)]
            )
    harness.start()

    async def commands_are_out() -> bool:
        return (await vhost.management.depth(QUEUE)).ready >= 5

    await eventually(commands_are_out)
    await eventually(lambda: "run `taskbell setup`" in harness.state.get("detail", ""))
    await declare(vhost.url)
    await harness.all_published()
    assert set(ids(await vhost.management.take(WEEKLY))) == {f"w-{number}" for number in range(5)}
    assert set(ids(await vhost.management.take(QUEUE))) == {f"m-{number}" for number in range(5)}


@pytest.mark.parametrize(
    ("key", "message_id", "error", "state"),
    [
        ("tasks.burnt", "x", "'tasks.burnt' is not a message of this version or of an installed package", "degraded"),
        ("weekly.due", "x" * 300, "a message that AMQP cannot carry", "waiting"),
    ],
)
async def test_a_row_that_can_never_be_published_holds_up_nobody(
    harness: RelayHarness, vhost: Vhost, key: str, message_id: str, error: str, state: str
) -> None:
    async with harness.database.transaction() as transaction:
        await transaction.execute(INSERT, {"k": key, "m": message_id})
        await harness.outbox.add(transaction, [command(1)])
    harness.start()
    await eventually(lambda: ready_in(vhost, QUEUE))

    async def told() -> bool:
        (stuck, _) = await rows(harness.database, "last_error, published_at")
        assert stuck.published_at is None
        return str(stuck.last_error).startswith(error)

    await eventually(told)
    await eventually(lambda: harness.state["state"] == state)


async def test_rows_of_a_package_that_was_removed_stay_and_are_told_of_in_one_sentence(
    harness: RelayHarness, vhost: Vhost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "COUNT_EVERY", 0.05)
    monkeypatch.setattr(module, "UNKNOWN_PAUSE", 0.2)
    async with harness.database.transaction() as transaction:
        for number in range(3):
            await transaction.execute(INSERT, {"k": "timesheets.approve", "m": f"t-{number}"})
    logged: list[str] = []
    log_once = harness.relay._log_unknown

    def log(routing_key: str, error: Exception) -> None:
        logged.extend({routing_key} - harness.relay._logged_unknown)
        log_once(routing_key, error)

    monkeypatch.setattr(harness.relay, "_log_unknown", log)
    harness.start()

    async def tried_again() -> bool:
        found = await rows(harness.database, "attempts, published_at")
        return all(row.attempts >= 3 and row.published_at is None for row in found)

    await eventually(tried_again)
    assert logged == ["timesheets.approve"]
    assert harness.state == {
        "state": "degraded",
        "detail": "3 messages in the outbox, such as timesheets.approve, cannot be published: the package is not "
        "installed here. Install it, or delete the rows",
    }
    assert harness.health.ready, "everything else goes on"
    await harness.write(1)
    await eventually(lambda: ready_in(vhost, QUEUE))

    async with harness.database.transaction() as transaction:
        await transaction.execute("DELETE FROM taskbell.outbox WHERE routing_key = 'timesheets.approve'")
    await eventually(lambda: harness.state == {"state": "ready"})


async def test_a_message_that_the_user_may_not_publish_holds_up_nobody(
    open_harness: Callable[..., RelayHarness], vhost: Vhost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SLOWEST", 0.5)
    name = f"test_{uuid.uuid4().hex[:12]}"
    await vhost.management.call("PUT", f"/users/{name}", {"password": "secret", "tags": ""})
    try:
        permissions = {"configure": "^$", "write": ".*", "read": "^$"}
        await vhost.management.call("PUT", f"/permissions/{{vhost}}/{name}", permissions)
        topic = {"exchange": "taskbell.events", "write": r"^weekly\.due$", "read": "^$"}
        await vhost.management.call("PUT", f"/topic-permissions/{{vhost}}/{name}", topic)
        harness = open_harness(as_user(vhost.url, name, "secret"))
        async with harness.database.transaction() as transaction:
            await transaction.execute(INSERT, {"k": "reminder.due", "m": "forbidden"})
            for number in range(10):
                await transaction.execute(INSERT, {"k": "weekly.due", "m": f"w-{number}"})
        harness.start()
        await eventually(lambda: _waits_alone(harness.database, "forbidden"))
    finally:
        await vhost.management.call("DELETE", f"/users/{name}")
    assert set(ids(await vhost.management.take(WEEKLY))) == {f"w-{number}" for number in range(10)}
    (stuck, *_) = await rows(harness.database, "last_error")
    assert "ACCESS_REFUSED" in stuck.last_error
