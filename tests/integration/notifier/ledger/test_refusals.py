"""Refusals that are not the recipient's fault use nobody up; those that are end as before."""

from collections.abc import Callable
from typing import Any

import pytest
from tests.integration.notifier.ledger.notifier_parts import NotifierParts, planned
from tests.integration.notifier.ledger.support import NotifierTables, running, settings_for
from tests.support.management import Management
from tests.support.scripted_smtp import ScriptedSmtp
from tests.support.waiting import eventually

from taskbell_notifier.smtp.breaker import BreakerState

NAMED = [
    ("RCPT", "553 5.7.1 <bell@example.org>: Sender address rejected: not owned by user a"),
    ("RCPT", "554 5.7.1 <user1@example.org>: Relay access denied"),
    ("RCPT", "530 5.7.0 Authentication required"),
    ("DATA", "550 5.7.60 SMTP; Client does not have permissions to send as this sender"),
    ("DOT", "554 Message rejected: Email address is not verified."),
    ("DOT", "550 5.7.26 Unauthenticated email is not accepted due to the domain's DMARC policy"),
]


async def nothing_is_used_up(tables: NotifierTables, count: int) -> None:
    rows = await tables.deliveries()
    assert len(rows) == count
    assert {row["ended_at"] for row in rows.values()} == {None}
    # A row that is being handed over counts its try until the server's reply is written.
    assert all(row["attempts"] == (row["state"] == "sending") for row in rows.values())
    assert await tables.value("SELECT count(*) FROM taskbell.suppression") == 0
    assert await tables.outbox("mail.failed") == []


async def all_are_due(tables: NotifierTables) -> None:
    """Lets the time pass that rows wait for."""
    await tables.execute(
        "UPDATE taskbell.delivery SET next_attempt_at = now(), due_at = now() WHERE next_attempt_at > now()"
    )


async def resumed(parts: NotifierParts) -> None:
    await eventually(lambda: parts.pool.breaker.status.allows_sending)


@pytest.mark.parametrize(("at", "reply"), NAMED)
async def test_a_refusal_that_names_the_sender_or_the_relay_pauses_and_uses_nobody_up(
    at: str, reply: str, tables: NotifierTables, parts: NotifierParts, server: ScriptedSmtp
) -> None:
    await planned(tables, parts, server, *range(1, 11))
    rule = server.rule(at, reply=reply)
    for _ in range(3):
        await parts.send()
        await parts.refusals().settle()
        await all_are_due(tables)
        await nothing_is_used_up(tables, 10)
        await resumed(parts)
        # Between two tries, too.
        await parts.refusals().settle()
        assert parts.health.report()["parts"]["mail server"]["state"] == "degraded"
    assert reply[:3] in parts.pool.breaker.reason
    reasons = {row["reason"] for row in (await tables.deliveries()).values()}
    assert any(reply[:3] in (reason or "") for reason in reasons)
    server.rules.remove(rule)
    while len(server.accepted) < 10:
        await all_are_due(tables)
        await parts.send()
        await resumed(parts)
    assert set((await tables.states()).values()) == {"sent"}
    assert parts.pool.breaker.state is BreakerState.SENDING


@pytest.mark.parametrize("at", ["RCPT", "DATA", "DOT"])
async def test_a_refusal_that_names_nobody_ends_nobody_until_somebody_else_is_served(
    at: str, tables: NotifierTables, parts: NotifierParts, server: ScriptedSmtp
) -> None:
    await planned(tables, parts, server, 1, 2, pool_size=1)
    server.rule(at, reply="554 5.7.1 we do not like this", recipient="user1@example.org")
    first, second = sorted((await tables.deliveries()).values(), key=lambda row: row["id"])
    await parts.send([first["id"]])
    await parts.refusals().settle()
    row = (await tables.deliveries())["user:1"]
    assert (row["state"], row["attempts"], row["ended_at"]) == ("retry", 0, None)
    assert "waits until" in row["reason"]
    await parts.send([second["id"]])
    await parts.refusals().settle()
    row = (await tables.deliveries())["user:1"]
    assert row["state"] == "failed"
    assert row["reason"].endswith(": 554 5.7.1 we do not like this")
    assert row["reason"].startswith({"DOT": "message"}.get(at, at))
    assert len(await tables.outbox("mail.failed")) == 1
    assert parts.pool.breaker.state is BreakerState.SENDING
    assert await tables.value("SELECT count(*) FROM taskbell.refusal") == 0


async def test_a_mail_that_the_same_person_gets_settles_nothing(
    tables: NotifierTables, parts: NotifierParts, server: ScriptedSmtp
) -> None:
    await planned(tables, parts, server)
    server.rule("RCPT", reply="550 no", times=1)
    await parts.send()
    await tables.execute(
        "INSERT INTO taskbell.delivery (mailing_id, kind, recipient, period, state, due_at, expires_at, address,"
        " ended_at) SELECT mailing_id, 'test', 'user:1', 'x', 'sent', now(), now(), 'User1@example.org', now()"
        " FROM taskbell.delivery"
    )
    await parts.refusals().settle()
    assert (await tables.rows("SELECT state FROM taskbell.delivery WHERE kind = 'overdue'"))[0]["state"] == "retry"


async def test_after_an_hour_it_is_the_recipients_fault(
    tables: NotifierTables, parts: NotifierParts, server: ScriptedSmtp
) -> None:
    await planned(tables, parts, server)
    server.rule("RCPT", reply="550 no")
    await parts.send()
    await tables.execute("UPDATE taskbell.refusal SET refused_at = now() - interval '59 minutes'")
    await parts.refusals().settle()
    assert (await tables.delivery())["state"] == "retry"
    await tables.execute("UPDATE taskbell.refusal SET refused_at = now() - interval '61 minutes'")
    await parts.refusals(paused=True).settle()
    assert (await tables.delivery())["state"] == "retry"
    await parts.refusals().settle()
    row = await tables.delivery()
    assert (row["state"], row["reason"]) == ("failed", "RCPT: 550 no")


async def test_three_people_with_the_same_words_pause_and_are_included(
    tables: NotifierTables, parts: NotifierParts, server: ScriptedSmtp
) -> None:
    await planned(tables, parts, server, *range(1, 7), pool_size=1)
    rule = server.rule("DOT", reply="554 5.0.0 not today, queue id 4F3A", times=3)
    await parts.send()
    assert rule.seen == 3
    assert parts.pool.breaker.state is not BreakerState.SENDING
    await parts.refusals(paused=True).settle()
    await nothing_is_used_up(tables, 6)
    held = await tables.rows("SELECT reason FROM taskbell.delivery WHERE state = 'retry'")
    assert len(held) == 3
    assert all("sending is paused" in row["reason"] and "not today" in row["reason"] for row in held)
    async with tables.database.transaction() as another:
        # Another notifier judges them just now: this one has read nothing, and so must not say that all is well.
        await another.execute("SELECT FROM taskbell.refusal FOR UPDATE")
        await parts.refusals(paused=True).settle()
    report = parts.health.report()
    assert report["parts"]["mail server"]["state"] == "degraded"
    assert "not today" in report["parts"]["mail server"]["detail"]
    await resumed(parts)
    # The probe is somebody else's mail: the three are not due yet.
    await parts.send()
    assert not {f"user{number}@example.org" for number in (1, 2, 3)} & {mail.recipients[0] for mail in server.accepted}
    await parts.refusals().settle()
    await parts.send()
    assert set((await tables.states()).values()) == {"sent"}
    await parts.refusals().settle()
    assert await tables.value("SELECT count(*) FROM taskbell.refusal") == 0
    assert parts.health.report()["parts"]["mail server"]["state"] == "ready"


async def test_three_people_are_three_although_each_met_it_in_another_process(
    tables: NotifierTables, make_parts: Callable[..., NotifierParts], server: ScriptedSmtp
) -> None:
    processes = [make_parts() for _ in range(3)]
    await planned(tables, processes[0], server, 1, 2, 3)
    for parts in processes[1:]:
        parts.add_sender(server)
    server.rule("RCPT", reply="550 no")
    ids = [row["id"] for row in (await tables.deliveries()).values()]
    for number, parts in zip(ids, processes, strict=True):
        await parts.send([number])
        assert parts.pool.breaker.status.allows_sending
    await processes[0].refusals().settle()
    assert processes[0].pool.breaker.state is not BreakerState.SENDING
    await processes[1].refusals().settle()
    assert processes[1].pool.breaker.state is not BreakerState.SENDING
    await nothing_is_used_up(tables, 3)


async def test_a_process_that_starts_finds_the_pause(
    tables: NotifierTables, make_parts: Callable[..., NotifierParts], server: ScriptedSmtp
) -> None:
    parts = make_parts()
    await planned(tables, parts, server, 1, 2, 3)
    server.rule("RCPT", reply="550 no")
    await parts.send()
    await parts.refusals(paused=True).settle()
    later = make_parts()
    later.add_sender(server)
    judge = later.refusals()
    await judge.settle()
    assert later.pool.breaker.state is BreakerState.CONFIGURATION_FAULT
    await resumed(later)
    await judge.settle()
    assert later.pool.breaker.status.allows_sending, "one pause is told once"


async def test_three_who_alone_are_refused_pause_once_and_then_end(
    tables: NotifierTables, parts: NotifierParts, server: ScriptedSmtp
) -> None:
    await planned(tables, parts, server, *range(1, 7), pool_size=1)
    for number in (1, 2, 3):
        server.rule("RCPT", reply="550 no", recipient=f"user{number}@example.org")
    await parts.send()
    await parts.refusals(paused=True).settle()
    await resumed(parts)
    for _ in range(2):
        await parts.send()
        await parts.refusals().settle()
        await tables.execute("UPDATE public.users SET email = 'other@example.org' WHERE id = 6")
        assert parts.pool.breaker.status.allows_sending
    states = await tables.states()
    assert {states[f"user:{number}"] for number in (4, 5, 6)} == {"sent"}
    # Nobody was served since they were refused again; the next mail to somebody else settles it.
    await tables.late_people(7)
    await parts.plan(message_id="m2")
    await parts.send()
    await parts.refusals().settle()
    states = await tables.states()
    assert {states[f"user:{number}"] for number in (1, 2, 3)} == {"failed"}


async def test_a_user_unknown_ends_that_mail_at_once(
    tables: NotifierTables, parts: NotifierParts, server: ScriptedSmtp
) -> None:
    await planned(tables, parts, server, 1, 2, pool_size=1)
    server.rule("RCPT", reply="550 5.1.1 user unknown", recipient="user1@example.org")
    await parts.send()
    assert await tables.states() == {"user:1": "failed", "user:2": "sent"}
    await parts.refusals().settle()
    assert await tables.value("SELECT array_agg(address) FROM taskbell.suppression") == ["user1@example.org"]
    assert await tables.value("SELECT count(*) FROM taskbell.refusal") == 0


@pytest.mark.parametrize(
    "reply",
    ["550 5.1.1 user unknown", "550 Unrouteable address", "550 5.4.1 Recipient address rejected: Access denied"],
)
async def test_thirty_good_addresses_refused_at_once_are_neither_suppressed_nor_lost(
    reply: str, tables: NotifierTables, parts: NotifierParts, server: ScriptedSmtp
) -> None:
    await planned(tables, parts, server, *range(1, 31), pool_size=4)
    rule = server.rule("RCPT", reply=reply)
    await parts.send()
    judge = parts.refusals()
    await parts.refusals(paused=True).settle()
    assert await tables.value("SELECT count(*) FROM taskbell.suppression") == 0
    assert await tables.value("SELECT count(*) FROM taskbell.delivery WHERE state = 'failed'") <= 2
    server.rules.remove(rule)
    for _ in range(3):
        await resumed(parts)
        await all_are_due(tables)
        await parts.send()
        await judge.settle()
    assert {mail.recipients[0] for mail in server.accepted} == {f"user{n}@example.org" for n in range(1, 31)}
    assert len(server.accepted) == 30
    assert await tables.value("SELECT count(*) FROM taskbell.suppression") == 0


async def test_a_running_notifier_says_so_and_mails_everybody_once_it_is_mended(
    tables: NotifierTables, database_url: str, broker_url: str, management: Management, server: ScriptedSmtp
) -> None:
    await tables.late_people(*range(1, 21))
    server.rule("RCPT", reply="553 5.7.1 <bell@example.org>: Sender address rejected: not owned by user a")
    settings: Any = settings_for(database_url, smtp_port=server.port, broker_url=broker_url, mail_pool_size=2)
    async with running(settings) as notifier:
        await management.publish("taskbell.events", "overdue.due", {})
        await eventually(lambda: notifier.process.health.report()["status"] == "degraded")
        assert notifier.process.health.ready
        assert "not owned by user a" in notifier.process.health.report()["parts"]["smtp"]["detail"]
        await nothing_is_used_up(tables, 20)
