"""What becomes of rows that wait: cut off, due, unknown, too late, forgotten."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from tests.integration.notifier.ledger.house import Town
from tests.integration.notifier.ledger.rooms import Rooms
from tests.support.scripted_smtp import ScriptedSmtp
from tests.support.waiting import eventually

from taskbell.contracts import OverdueDue, SendBatch, WeeklyDue
from taskbell_notifier.delivery import sweeper as sweeper_module

CLAIMED = (
    "UPDATE taskbell.delivery SET state = 'sending', phase = :phase, claim = gen_random_uuid(), attempts = 1,"
    " mail_message_id = '<overdue.' || id || '@example.org>',"
    " lease_until = now() + make_interval(secs => :lease), due_at = now()"
)


async def planned(town: Town, rooms: Rooms, *users: int) -> None:
    """These people are to be told that a task is overdue, and their messages are at the broker."""
    await town.late_people(*(users or (1,)))
    await rooms.plan()
    await town.execute("UPDATE taskbell.outbox SET published_at = now()")
    await town.execute("UPDATE taskbell.delivery SET due_at = now()")


async def claimed(town: Town, phase: str, *, lease: float = -1) -> None:
    """A process has claimed every row, and got so far."""
    await town.execute(CLAIMED, phase=phase, lease=lease)


async def again(town: Town) -> list[tuple[int, ...]]:
    """The batches that were written and not yet published."""
    rows = await town.rows(
        "SELECT body::text AS body FROM taskbell.outbox"
        " WHERE routing_key = 'notifier.send_batch' AND published_at IS NULL ORDER BY id"
    )
    return [SendBatch.parse(row["body"].encode()).delivery_ids for row in rows]


async def sweep_all(rooms: Rooms, **given: Any) -> None:
    """Sweeps until there is nothing more to do at once."""
    sweeper = rooms.sweeper(**given)
    while await sweeper.sweep():
        pass


async def test_a_row_cut_off_before_the_data_is_sent_after_all(town: Town, rooms: Rooms, server: ScriptedSmtp) -> None:
    await planned(town, rooms)
    await claimed(town, "envelope")
    await sweep_all(rooms)
    row = await town.delivery()
    assert (row["state"], row["cut_offs"], row["claim"]) == ("retry", 1, None)
    assert await again(town) == [(row["id"],)]
    rooms.hires_sender(server)
    await rooms.send()
    assert (await town.delivery())["state"] == "sent"


async def test_a_row_cut_off_in_the_data_is_sent_once_more_under_the_same_message_id(
    town: Town, rooms: Rooms, server: ScriptedSmtp
) -> None:
    await planned(town, rooms)
    rooms.hires_sender(server)
    server.rule("DOT", drop=True, accept=True, times=1)  # taken, and the answer is lost
    await rooms.send()
    row = await town.delivery()
    assert (row["state"], row["resends"]) == ("unknown", 0)
    await town.execute("UPDATE taskbell.delivery SET due_at = now(), next_attempt_at = now()")
    await sweep_all(rooms)
    assert await again(town) == [(row["id"],)]
    await rooms.send()
    row = await town.delivery()
    assert (row["state"], row["resends"], row["attempts"]) == ("sent", 1, 2)
    assert [mail.message_id for mail in server.accepted] == [row["mail_message_id"]] * 2
    assert rooms.measures.resends._value.get() == 1


@pytest.mark.parametrize("rule", [{"drop": True}, {"reply": "451 4.3.0 later"}, {"reply": "554 5.0.0 no"}])
async def test_after_one_resend_there_is_no_other(
    town: Town, rooms: Rooms, server: ScriptedSmtp, rule: dict[str, Any]
) -> None:
    await planned(town, rooms)
    rooms.hires_sender(server)
    server.rule("DOT", drop=True, times=1)
    await rooms.send()
    server.rule("DOT", **rule)
    await town.execute("UPDATE taskbell.delivery SET next_attempt_at = now()")
    await rooms.send()
    row = await town.delivery()
    assert (row["state"], row["resends"]) == ("failed", 1)
    assert row["reason"].startswith("outcome unknown; resend: message: ")
    assert sum(connection.messages for connection in server.connections) == 2
    (failed,) = await town.outbox("mail.failed")
    assert failed["reason"] == row["reason"]


async def test_a_resend_that_is_refused_before_the_message_is_still_to_come(
    town: Town, rooms: Rooms, server: ScriptedSmtp
) -> None:
    await planned(town, rooms)
    rooms.hires_sender(server)
    server.rule("DOT", drop=True, times=1)
    await rooms.send()
    server.rule("RCPT", reply="450 4.2.0 later", times=1)
    for expected in ("unknown", "sent"):
        await town.execute("UPDATE taskbell.delivery SET next_attempt_at = now()")
        await rooms.send()
        row = await town.delivery()
        assert (row["state"], row["resends"]) == (expected, int(expected == "sent"))


async def test_a_process_that_dies_in_the_resend_ends_the_row_as_unknown(town: Town, rooms: Rooms) -> None:
    await planned(town, rooms)
    await claimed(town, "data")
    await town.execute("UPDATE taskbell.delivery SET unknown_at = now(), resends = 1")
    await sweep_all(rooms)
    row = await town.delivery()
    assert (row["state"], row["reason"]) == (
        "failed",
        "outcome unknown; resend: cut off after the data had begun",
    )


async def test_the_marker_itself_refuses_a_second_resend(town: Town, rooms: Rooms, server: ScriptedSmtp) -> None:
    await planned(town, rooms)
    rooms.hires_sender(server)
    await town.execute("UPDATE taskbell.delivery SET unknown_at = now()")
    (row,) = await rooms.ledger.claim([(await town.delivery())["id"]])
    await town.execute("UPDATE taskbell.delivery SET resends = 1")
    assert await rooms.ledger.mark_data(row) is False


async def test_held_rows_of_unknown_outcome_are_not_sent_again_and_end_after_48_hours(
    town: Town, make_rooms: Callable[..., Rooms], server: ScriptedSmtp
) -> None:
    rooms = make_rooms(unknown_policy="hold")
    await planned(town, rooms)
    await claimed(town, "data")
    await sweep_all(rooms)
    await sweep_all(rooms)
    rooms.hires_sender(server)
    await rooms.send()
    row = await town.delivery()
    assert (row["state"], server.connections, await again(town)) == ("unknown", [], [])
    assert row["due_at"] - town.now > timedelta(hours=47)
    await town.execute("UPDATE taskbell.mailing SET at = now() - interval '48 hours'")
    await town.execute("UPDATE taskbell.delivery SET due_at = now()")
    await sweep_all(rooms)
    row = await town.delivery()
    assert (row["state"], row["reason"]) == ("failed", "outcome unknown")


@pytest.mark.parametrize("phase", ["envelope", "data"])
async def test_leases_are_judged_only_after_postgresql_has_answered_for_one(
    town: Town, rooms: Rooms, phase: str
) -> None:
    await planned(town, rooms)
    await claimed(town, phase)
    await sweep_all(rooms, judges=False)
    row = await town.delivery()
    assert (row["state"], row["phase"]) == ("sending", phase)


async def test_a_lease_that_lasts_is_left_alone(town: Town, rooms: Rooms) -> None:
    await planned(town, rooms)
    await claimed(town, "data", lease=60)
    await sweep_all(rooms)
    row = await town.delivery()
    assert (row["state"], row["due_at"]) == ("sending", row["lease_until"])


async def test_a_sweeper_forgets_how_long_postgresql_answered_when_it_is_away(town: Town, rooms: Rooms) -> None:
    sweeper = rooms.sweeper()
    await sweeper.sweep()
    assert sweeper._answering_since is not None
    stop = asyncio.Event()
    running = asyncio.create_task(sweeper.run(stop))  # the gate was never opened
    await eventually(lambda: sweeper._answering_since is None)
    stop.set()
    await running


async def test_a_mail_too_late_expires_and_is_told_of(town: Town, rooms: Rooms) -> None:
    await planned(town, rooms, 1, 2)
    await town.execute("UPDATE taskbell.delivery SET expires_at = now()")
    await town.execute("UPDATE taskbell.delivery SET state = 'retry', reason = 'RCPT: 450 later' WHERE user_id = 2")
    await sweep_all(rooms)
    rows = await town.deliveries()
    assert {name: (row["state"], row["reason"]) for name, row in rows.items()} == {
        "user:1": ("expired", "not sent in time"),
        "user:2": ("expired", "not sent in time; RCPT: 450 later"),
    }
    assert sorted(body["delivery_id"] for body in await town.outbox("mail.failed")) == sorted(
        row["id"] for row in rows.values()
    )


async def test_a_cancelled_mailings_rows_end_at_once_but_those_under_way(town: Town, rooms: Rooms) -> None:
    await planned(town, rooms, 1, 2, 3)
    await town.execute("UPDATE taskbell.delivery SET due_at = now() + interval '1 hour'")
    await town.execute("UPDATE taskbell.delivery SET state = 'retry', next_attempt_at = now() WHERE user_id = 2")
    await town.execute(CLAIMED + " WHERE user_id = 3", phase="data", lease=60)
    await town.execute("UPDATE taskbell.mailing SET state = 'cancelled'")
    await sweep_all(rooms)
    assert await town.states() == {"user:1": "skipped", "user:2": "skipped", "user:3": "sending"}
    assert not await rooms.completion.complete_one()
    await town.execute("UPDATE taskbell.delivery SET state = 'sent', ended_at = now() WHERE user_id = 3")
    assert await rooms.completion.complete_one()
    assert await town.value("SELECT state FROM taskbell.mailing") == "cancelled"


async def test_a_retry_due_is_queued_again(town: Town, rooms: Rooms) -> None:
    await planned(town, rooms, 1, 2)
    await town.execute(
        "UPDATE taskbell.delivery SET state = 'retry', queued_at = now() - interval '1 hour',"
        " next_attempt_at = now() + make_interval(secs => CASE user_id WHEN 1 THEN -1 ELSE 60 END)"
    )
    await sweep_all(rooms, idle=False)
    rows = await town.deliveries()
    assert await again(town) == [(rows["user:1"]["id"],)]
    assert rows["user:2"]["due_at"] == rows["user:2"]["next_attempt_at"]


async def test_a_lost_message_is_written_again_and_only_once_a_while(town: Town, rooms: Rooms) -> None:
    await planned(town, rooms, *range(1, 251))
    await sweep_all(rooms)
    batches = await again(town)
    assert [len(batch) for batch in batches] == [100, 100, 50]
    await sweep_all(rooms)
    assert await again(town) == batches


async def test_in_a_busy_queue_nothing_is_written_twice(town: Town, rooms: Rooms) -> None:
    await planned(town, rooms, 1, 2)
    await sweep_all(rooms, idle=False)
    assert await again(town) == []


async def test_while_sending_is_paused_nothing_is_queued_but_all_the_rest_goes_on(town: Town, rooms: Rooms) -> None:
    await planned(town, rooms, 1, 2)
    await town.execute("UPDATE taskbell.delivery SET expires_at = now() WHERE user_id = 2")
    await sweep_all(rooms, paused=True)
    assert await town.states() == {"user:1": "planned", "user:2": "expired"}
    assert await again(town) == []


async def test_while_messages_wait_for_the_broker_none_is_written_again(
    town: Town, rooms: Rooms, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeper_module, "BACKLOG", 1)
    await town.late_people(1)
    await rooms.plan()
    await town.execute("UPDATE taskbell.delivery SET due_at = now()")
    batches = await again(town)
    await sweep_all(rooms)
    assert await again(town) == batches


async def test_rows_that_their_processes_died_of_go_alone(town: Town, rooms: Rooms) -> None:
    await planned(town, rooms, 1, 2, 3)
    await town.execute("UPDATE taskbell.delivery SET cut_offs = 2 WHERE user_id = 2")
    await sweep_all(rooms)
    ids = {name: row["id"] for name, row in (await town.deliveries()).items()}
    assert await again(town) == [(ids["user:2"],), (ids["user:1"], ids["user:3"])]


async def test_sweepers_side_by_side_queue_each_row_once(town: Town, make_rooms: Callable[..., Rooms]) -> None:
    several = [make_rooms() for _ in range(3)]
    await planned(town, several[0], *range(1, 201))
    await asyncio.gather(*(sweep_all(rooms) for rooms in several))
    ids = [number for batch in await again(town) for number in batch]
    assert len(ids) == len(set(ids)) == 200


async def test_a_mailing_is_over_when_its_last_row_is_and_is_told_of_once(
    town: Town, make_rooms: Callable[..., Rooms]
) -> None:
    several = [make_rooms() for _ in range(3)]
    await town.late_people(1, 2, 3)
    await several[0].start(OverdueDue())
    await several[0].planner.plan_page()
    await town.execute("UPDATE taskbell.delivery SET state = 'sent', ended_at = now()")
    assert not await several[0].completion.complete_one()  # planning has not ended
    await several[0].planner.plan_page()
    await town.execute("UPDATE taskbell.delivery SET state = 'retry', ended_at = NULL WHERE user_id = 2")
    assert not await several[0].completion.complete_one()
    await town.execute("UPDATE taskbell.delivery SET state = 'failed', ended_at = now() WHERE user_id = 2")
    assert sum(await asyncio.gather(*(rooms.completion.complete_one() for rooms in several))) == 1
    (told,) = await town.outbox("mailing.completed")
    assert told["counts"] == {"sent": 2, "skipped": 0, "suppressed": 0, "expired": 0, "failed": 1, "already": 0}
    assert told["occurrence"] is None


async def test_counts_are_those_of_the_mailing_alone_when_several_are_planned_at_once(town: Town, rooms: Rooms) -> None:
    await town.late_people(*range(1, 6))
    await rooms.start(OverdueDue(), "m1")
    await rooms.start(WeeklyDue(user_ids=(1, 2)), "m2")
    await rooms.start(OverdueDue(user_ids=(3,), force=True), "m3")
    while await rooms.planner.plan_page():
        pass
    await town.execute("UPDATE taskbell.delivery SET state = 'sent', ended_at = now()")
    while await rooms.completion.complete_one():
        pass
    told = await town.outbox("mailing.completed")
    assert [(body["kind"], body["counts"]["sent"]) for body in told] == [("overdue", 5), ("weekly", 2), ("overdue", 1)]
