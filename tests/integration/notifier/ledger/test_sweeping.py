"""What becomes of rows that wait: cut off, due, unknown, too late, forgotten."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from tests.integration.notifier.ledger.notifier_parts import NotifierParts
from tests.integration.notifier.ledger.support import NotifierTables
from tests.support.scripted_smtp import ScriptedSmtp

from taskbell.contracts import OverdueDue, SendBatch, WeeklyDue
from taskbell_notifier.delivery import sweeper as sweeper_module
from taskbell_notifier.planning import completion as completion_module
from taskbell_notifier.planning import planner as planner_module
from taskbell_notifier.repository import mailings as mailings_module

CLAIMED = (
    "UPDATE taskbell.delivery SET state = 'sending', phase = :phase, claim = gen_random_uuid(), attempts = 1,"
    " mail_message_id = '<overdue.' || id || '@example.org>',"
    " lease_until = now() + make_interval(secs => :lease), due_at = now()"
)


async def planned(tables: NotifierTables, parts: NotifierParts, *users: int) -> None:
    """These people are to be told that a task is overdue, and their messages are at the broker."""
    await tables.late_people(*(users or (1,)))
    await parts.plan()
    await tables.execute("UPDATE taskbell.outbox SET published_at = now()")
    await tables.execute("UPDATE taskbell.delivery SET due_at = now()")


async def claimed(tables: NotifierTables, phase: str, *, lease: float = -1) -> None:
    """A process has claimed every row, and got so far."""
    await tables.execute(CLAIMED, phase=phase, lease=lease)


async def again(tables: NotifierTables) -> list[tuple[int, ...]]:
    """The batches that were written and not yet published."""
    rows = await tables.rows(
        "SELECT body::text AS body FROM taskbell.outbox"
        " WHERE routing_key = 'notifier.send_batch' AND published_at IS NULL ORDER BY id"
    )
    return [SendBatch.parse(row["body"].encode()).delivery_ids for row in rows]


async def sweep_all(parts: NotifierParts, **given: Any) -> None:
    """Sweeps until there is nothing more to do at once."""
    sweeper = parts.sweeper(**given)
    while await sweeper.sweep():
        pass


async def test_a_row_cut_off_before_the_data_is_sent_after_all(
    tables: NotifierTables, parts: NotifierParts, server: ScriptedSmtp
) -> None:
    await planned(tables, parts)
    await claimed(tables, "envelope")
    await sweep_all(parts)
    row = await tables.delivery()
    assert (row["state"], row["cut_offs"], row["claim"]) == ("retry", 1, None)
    assert await again(tables) == [(row["id"],)]
    parts.add_sender(server)
    await parts.send()
    assert (await tables.delivery())["state"] == "sent"


async def test_a_row_cut_off_in_the_data_is_sent_once_more_under_the_same_message_id(
    tables: NotifierTables, parts: NotifierParts, server: ScriptedSmtp
) -> None:
    await planned(tables, parts)
    parts.add_sender(server)
    server.rule("DOT", drop=True, accept=True, times=1)  # taken, and the answer is lost
    await parts.send()
    row = await tables.delivery()
    assert (row["state"], row["resends"]) == ("unknown", 0)
    await tables.execute("UPDATE taskbell.delivery SET due_at = now(), next_attempt_at = now()")
    await sweep_all(parts)
    assert await again(tables) == [(row["id"],)]
    await parts.send()
    row = await tables.delivery()
    assert (row["state"], row["resends"], row["attempts"]) == ("sent", 1, 2)
    assert [mail.message_id for mail in server.accepted] == [row["mail_message_id"]] * 2
    assert parts.metrics.resends._value.get() == 1


@pytest.mark.parametrize("rule", [{"drop": True}, {"reply": "451 4.3.0 later"}, {"reply": "554 5.6.0 no"}])
async def test_after_one_resend_there_is_no_other(
    tables: NotifierTables, parts: NotifierParts, server: ScriptedSmtp, rule: dict[str, Any]
) -> None:
    await planned(tables, parts)
    parts.add_sender(server)
    server.rule("DOT", drop=True, times=1)
    await parts.send()
    server.rule("DOT", **rule)
    await tables.execute("UPDATE taskbell.delivery SET next_attempt_at = now()")
    await parts.send()
    row = await tables.delivery()
    assert (row["state"], row["resends"]) == ("failed", 1)
    assert row["reason"].startswith("outcome unknown; resend: message: ")
    assert sum(connection.messages for connection in server.connections) == 2
    (failed,) = await tables.outbox("mail.failed")
    assert failed["reason"] == row["reason"]


async def test_a_resend_that_is_refused_before_the_message_is_still_to_come(
    tables: NotifierTables, parts: NotifierParts, server: ScriptedSmtp
) -> None:
    await planned(tables, parts)
    parts.add_sender(server)
    server.rule("DOT", drop=True, times=1)
    await parts.send()
    server.rule("RCPT", reply="450 4.2.0 later", times=1)
    for expected in ("unknown", "sent"):
        await tables.execute("UPDATE taskbell.delivery SET next_attempt_at = now()")
        await parts.send()
        row = await tables.delivery()
        assert (row["state"], row["resends"]) == (expected, int(expected == "sent"))


async def test_a_process_that_dies_in_the_resend_ends_the_row_as_unknown(
    tables: NotifierTables, parts: NotifierParts
) -> None:
    await planned(tables, parts)
    await claimed(tables, "data")
    await tables.execute("UPDATE taskbell.delivery SET unknown_at = now(), resends = 1")
    await sweep_all(parts)
    row = await tables.delivery()
    assert (row["state"], row["reason"]) == (
        "failed",
        "outcome unknown; resend: cut off after the data had begun",
    )


async def test_the_marker_itself_refuses_a_second_resend(
    tables: NotifierTables, parts: NotifierParts, server: ScriptedSmtp
) -> None:
    await planned(tables, parts)
    parts.add_sender(server)
    await tables.execute("UPDATE taskbell.delivery SET unknown_at = now()")
    (row,) = await parts.ledger.claim([(await tables.delivery())["id"]])
    await tables.execute("UPDATE taskbell.delivery SET resends = 1")
    assert await parts.ledger.mark_data(row) is False


async def test_held_rows_of_unknown_outcome_are_not_sent_again_and_end_after_48_hours(
    tables: NotifierTables, make_parts: Callable[..., NotifierParts], server: ScriptedSmtp
) -> None:
    parts = make_parts(unknown_policy="hold")
    await planned(tables, parts)
    await claimed(tables, "data")
    await sweep_all(parts)
    await sweep_all(parts)
    parts.add_sender(server)
    await parts.send()
    row = await tables.delivery()
    assert (row["state"], server.connections, await again(tables)) == ("unknown", [], [])
    assert row["due_at"] - tables.now > timedelta(hours=47)
    await tables.execute("UPDATE taskbell.mailing SET at = now() - interval '48 hours'")
    await tables.execute("UPDATE taskbell.delivery SET due_at = now()")
    await sweep_all(parts)
    row = await tables.delivery()
    assert (row["state"], row["reason"]) == ("failed", "outcome unknown")


async def test_a_lease_in_the_data_is_judged_only_after_postgresql_was_seen_to_answer_for_one(
    tables: NotifierTables, parts: NotifierParts
) -> None:
    await planned(tables, parts)
    await claimed(tables, "data")
    await sweep_all(parts, judges=False)
    row = await tables.delivery()
    assert (row["state"], row["phase"]) == ("sending", "data")
    assert row["due_at"] > tables.now


async def test_a_lease_in_the_envelope_is_taken_at_once_and_the_marker_refuses_its_holder(
    tables: NotifierTables, parts: NotifierParts, server: ScriptedSmtp
) -> None:
    await planned(tables, parts)
    parts.add_sender(server)
    (row,) = await parts.ledger.claim([(await tables.delivery())["id"]])
    await tables.execute("UPDATE taskbell.delivery SET due_at = now(), lease_until = now()")
    await sweep_all(parts, judges=False)
    assert (await tables.delivery())["state"] == "retry"
    assert await parts.ledger.mark_data(row) is False
    assert (await tables.delivery())["cut_offs"] == 1


async def test_a_lease_that_ran_out_is_found_however_late_its_row_is_due(
    tables: NotifierTables, parts: NotifierParts
) -> None:
    await planned(tables, parts, 1, 2)
    await claimed(tables, "envelope", lease=-1)
    await tables.execute("UPDATE taskbell.delivery SET lease_until = now() + interval '1 hour' WHERE user_id = 2")
    await tables.execute("UPDATE taskbell.delivery SET due_at = now() + interval '1 hour'")
    sweeper = parts.sweeper()
    await sweeper.search()
    while await sweeper.sweep():
        pass
    assert await tables.states() == {"user:1": "retry", "user:2": "sending"}


async def seen_for(tables: NotifierTables, *stretches: tuple[float, float]) -> None:
    """PostgreSQL was seen to answer from and until so many seconds ago."""
    for since, until in stretches:
        await tables.execute(
            "INSERT INTO taskbell.answering (since, until) VALUES"
            " (now() - make_interval(secs => :since), now() - make_interval(secs => :until))",
            since=since,
            until=until,
        )


async def test_what_processes_that_died_saw_of_postgresql_counts_in_all(
    tables: NotifierTables, parts: NotifierParts
) -> None:
    """Each of them lived shorter than a lease of 30 s."""
    await planned(tables, parts)
    await claimed(tables, "data", lease=-60)
    await seen_for(tables, (80, 70), (50, 40))
    sweeper = parts.sweeper(judges=False)
    await sweeper.sweep()
    assert (await tables.delivery())["state"] == "sending"
    await seen_for(tables, (20, 8))
    await tables.execute("UPDATE taskbell.delivery SET due_at = now()")
    await sweeper.sweep()
    assert (await tables.delivery())["state"] == "unknown"


async def stretches(tables: NotifierTables) -> list[float]:
    """The seconds of each stretch, the oldest first."""
    rows = await tables.rows("SELECT extract(epoch FROM until - since) AS lasts FROM taskbell.answering ORDER BY id")
    return [float(row["lasts"]) for row in rows]


async def test_a_process_goes_on_with_the_stretch_of_the_one_before_it_unless_nobody_saw_what_was_between(
    tables: NotifierTables, make_parts: Callable[..., NotifierParts]
) -> None:
    await seen_for(tables, (20, 5))
    await make_parts().sweeper(judges=False).observe()
    (first,) = await stretches(tables)
    assert first >= 20
    await tables.execute("UPDATE taskbell.answering SET until = now() - interval '11 seconds'")
    await make_parts().sweeper(judges=False).observe()
    assert (await stretches(tables))[1:] == [0]


async def test_a_process_that_saw_postgresql_away_does_not_count_the_time_between(
    tables: NotifierTables, parts: NotifierParts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeper_module, "OBSERVED", 0.0)
    sweeper = parts.sweeper()
    await sweeper.observe()
    await sweeper.observe()
    assert len(await stretches(tables)) == 1
    parts.gate.trip("away for a moment")
    parts.gate.open()
    await sweeper.observe()
    await sweeper.observe()
    assert len(await stretches(tables)) == 2


async def test_old_stretches_are_not_kept(tables: NotifierTables, parts: NotifierParts) -> None:
    await seen_for(tables, (90_000, 89_000), (80_000, 79_000))
    await parts.sweeper().observe()
    assert await stretches(tables) == [1000, 0]


async def test_a_lease_that_lasts_is_left_alone(tables: NotifierTables, parts: NotifierParts) -> None:
    await planned(tables, parts)
    await claimed(tables, "data", lease=60)
    await sweep_all(parts)
    row = await tables.delivery()
    assert (row["state"], row["due_at"]) == ("sending", row["lease_until"])


async def test_a_mail_too_late_expires_and_is_told_of(tables: NotifierTables, parts: NotifierParts) -> None:
    await planned(tables, parts, 1, 2)
    await tables.execute("UPDATE taskbell.delivery SET expires_at = now()")
    await tables.execute("UPDATE taskbell.delivery SET state = 'retry', reason = 'RCPT: 450 later' WHERE user_id = 2")
    await sweep_all(parts)
    rows = await tables.deliveries()
    assert {name: (row["state"], row["reason"]) for name, row in rows.items()} == {
        "user:1": ("expired", "not sent in time"),
        "user:2": ("expired", "not sent in time; RCPT: 450 later"),
    }
    assert sorted(body["delivery_id"] for body in await tables.outbox("mail.failed")) == sorted(
        row["id"] for row in rows.values()
    )


async def test_a_cancelled_mailings_rows_end_at_once_but_those_under_way(
    tables: NotifierTables, parts: NotifierParts
) -> None:
    await planned(tables, parts, 1, 2, 3)
    await tables.execute("UPDATE taskbell.delivery SET due_at = now() + interval '1 hour'")
    await tables.execute("UPDATE taskbell.delivery SET state = 'retry', next_attempt_at = now() WHERE user_id = 2")
    await tables.execute(CLAIMED + " WHERE user_id = 3", phase="data", lease=60)
    await tables.execute("UPDATE taskbell.mailing SET state = 'cancelled'")
    await sweep_all(parts)
    assert await tables.states() == {"user:1": "skipped", "user:2": "skipped", "user:3": "sending"}
    assert not await parts.completion.complete()
    await tables.execute("UPDATE taskbell.delivery SET state = 'sent', ended_at = now() WHERE user_id = 3")
    assert await parts.completion.complete()
    assert await tables.value("SELECT state FROM taskbell.mailing") == "cancelled"


async def test_a_cancelled_mailings_claims_end_before_their_mails_begin(
    tables: NotifierTables, parts: NotifierParts, server: ScriptedSmtp
) -> None:
    """Their process may have them in memory."""
    await planned(tables, parts, 1, 2)
    parts.add_sender(server)
    rows = await parts.ledger.claim([row["id"] for row in (await tables.deliveries()).values()])
    await tables.execute("UPDATE taskbell.delivery SET unknown_at = now() WHERE user_id = 2")
    await tables.execute("UPDATE taskbell.mailing SET state = 'cancelled'")
    await sweep_all(parts)
    found = {name: (row["state"], row["reason"], row["attempts"]) for name, row in (await tables.deliveries()).items()}
    assert found == {"user:1": ("skipped", "mailing cancelled", 0), "user:2": ("failed", "outcome unknown", 0)}
    assert [await parts.ledger.mark_data(row) for row in rows] == [False, False]


async def test_a_retry_due_is_queued_again(tables: NotifierTables, parts: NotifierParts) -> None:
    await planned(tables, parts, 1, 2)
    await tables.execute(
        "UPDATE taskbell.delivery SET state = 'retry', queued_at = now() - interval '1 hour',"
        " next_attempt_at = now() + make_interval(secs => CASE user_id WHEN 1 THEN -1 ELSE 60 END)"
    )
    await sweep_all(parts, idle=False)
    rows = await tables.deliveries()
    assert await again(tables) == [(rows["user:1"]["id"],)]
    assert rows["user:2"]["due_at"] == rows["user:2"]["next_attempt_at"]


async def test_a_lost_message_is_written_again_and_only_once_a_while(
    tables: NotifierTables, parts: NotifierParts
) -> None:
    await planned(tables, parts, *range(1, 251))
    await sweep_all(parts)
    batches = await again(tables)
    assert [len(batch) for batch in batches] == [100, 100, 50]
    await sweep_all(parts)
    assert await again(tables) == batches


async def test_in_a_busy_queue_nothing_is_written_twice(tables: NotifierTables, parts: NotifierParts) -> None:
    await planned(tables, parts, 1, 2)
    await sweep_all(parts, idle=False)
    assert await again(tables) == []


async def test_while_sending_is_paused_nothing_is_queued_but_all_the_rest_goes_on(
    tables: NotifierTables, parts: NotifierParts
) -> None:
    await planned(tables, parts, 1, 2)
    await tables.execute("UPDATE taskbell.delivery SET expires_at = now() WHERE user_id = 2")
    await sweep_all(parts, paused=True)
    assert await tables.states() == {"user:1": "planned", "user:2": "expired"}
    assert await again(tables) == []


async def test_while_messages_wait_for_the_broker_none_is_written_again(
    tables: NotifierTables, parts: NotifierParts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeper_module, "BACKLOG", 1)
    await tables.late_people(1)
    await parts.plan()
    await tables.execute("UPDATE taskbell.delivery SET due_at = now()")
    batches = await again(tables)
    await sweep_all(parts)
    assert await again(tables) == batches


async def test_rows_that_their_processes_died_of_go_alone(tables: NotifierTables, parts: NotifierParts) -> None:
    await planned(tables, parts, 1, 2, 3)
    await tables.execute("UPDATE taskbell.delivery SET cut_offs = 2 WHERE user_id = 2")
    await sweep_all(parts)
    ids = {name: row["id"] for name, row in (await tables.deliveries()).items()}
    assert await again(tables) == [(ids["user:2"],), (ids["user:1"], ids["user:3"])]


async def test_sweepers_side_by_side_queue_each_row_once(
    tables: NotifierTables, make_parts: Callable[..., NotifierParts]
) -> None:
    several = [make_parts() for _ in range(3)]
    await planned(tables, several[0], *range(1, 201))
    await asyncio.gather(*(sweep_all(parts) for parts in several))
    ids = [number for batch in await again(tables) for number in batch]
    assert len(ids) == len(set(ids)) == 200


async def test_a_mailing_is_over_when_its_last_row_is_and_is_told_of_once(
    tables: NotifierTables, make_parts: Callable[..., NotifierParts]
) -> None:
    several = [make_parts() for _ in range(3)]
    await tables.late_people(1, 2, 3)
    await several[0].start(OverdueDue())
    await several[0].planner.plan_page()
    await tables.execute("UPDATE taskbell.delivery SET state = 'sent', ended_at = now()")
    assert not await several[0].completion.complete()  # planning has not ended
    await several[0].planner.plan_page()
    await tables.execute("UPDATE taskbell.delivery SET state = 'retry', ended_at = NULL WHERE user_id = 2")
    assert not await several[0].completion.complete()
    await tables.execute("UPDATE taskbell.delivery SET state = 'failed', ended_at = now() WHERE user_id = 2")
    assert sum(await asyncio.gather(*(parts.completion.complete() for parts in several))) == 1
    (told,) = await tables.outbox("mailing.completed")
    assert told["counts"] == {"sent": 2, "skipped": 0, "suppressed": 0, "expired": 0, "failed": 1, "already": 0}
    assert told["occurrence"] is None


async def test_counts_are_those_of_the_mailing_alone_when_several_are_planned_at_once(
    tables: NotifierTables, parts: NotifierParts
) -> None:
    await tables.late_people(*range(1, 6))
    await parts.start(OverdueDue(), "m1")
    await parts.start(WeeklyDue(user_ids=(1, 2)), "m2")
    await parts.start(OverdueDue(user_ids=(3,), force=True), "m3")
    while await parts.planner.plan_page():
        pass
    await tables.execute("UPDATE taskbell.delivery SET state = 'sent', ended_at = now()")
    while await parts.completion.complete():
        pass
    told = await tables.outbox("mailing.completed")
    assert [(body["kind"], body["counts"]["sent"]) for body in told] == [("overdue", 5), ("weekly", 2), ("overdue", 1)]


async def test_many_mailings_are_completed_in_sets_each_once_with_its_own_event(
    tables: NotifierTables, parts: NotifierParts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completion_module, "LIMIT", 2)
    await tables.late_people(1, 2, 3)
    for number in (1, 2, 3):
        await parts.plan(OverdueDue(user_ids=(number,)), f"m{number}")
    await tables.execute("UPDATE taskbell.delivery SET state = 'sent', ended_at = now() WHERE user_id <> 2")
    await tables.execute("UPDATE taskbell.delivery SET state = 'failed', ended_at = now() WHERE user_id = 2")
    assert [await parts.completion.complete() for _ in range(3)] == [2, 1, 0]
    told = [(body["counts"]["sent"], body["counts"]["failed"]) for body in await tables.outbox("mailing.completed")]
    assert told == [(1, 0), (0, 1), (1, 0)]
    stored = await tables.rows("SELECT state, counts->>'sent' AS sent FROM taskbell.mailing ORDER BY id")
    assert [(row["state"], row["sent"]) for row in stored] == [
        ("completed", "1"),
        ("completed", "0"),
        ("completed", "1"),
    ]


async def test_mailings_whose_deliveries_are_mixed_are_counted_apart_and_as_many_as_one_statement_may_count(
    tables: NotifierTables, parts: NotifierParts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planner_module, "FIRST_PAGE", 1)
    monkeypatch.setattr(planner_module, "PAGE", 1)
    monkeypatch.setattr(mailings_module, "MOST_COUNTED", 12)
    await tables.late_people(*range(1, 7))
    await parts.start(OverdueDue(), "m1")
    await parts.start(WeeklyDue(), "m2")
    await parts.start(OverdueDue(user_ids=(3,), force=True), "m3")
    while await parts.planner.plan_page():
        pass
    ranges = await tables.rows("SELECT first_delivery, last_delivery FROM taskbell.mailing ORDER BY id")
    assert ranges[0]["first_delivery"] < ranges[1]["first_delivery"] < ranges[0]["last_delivery"]
    await tables.execute("UPDATE taskbell.delivery SET state = 'sent', ended_at = now()")
    assert [await parts.completion.complete() for _ in range(3)] == [1, 2, 0]
    told = await tables.outbox("mailing.completed")
    assert [(body["kind"], body["counts"]["sent"]) for body in told] == [("overdue", 5), ("weekly", 6), ("overdue", 1)]
