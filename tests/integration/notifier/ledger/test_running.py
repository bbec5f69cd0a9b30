"""The notifier as a whole: its other messages, its troubles with the mail server, and its end."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from tests.integration.notifier.ledger.support import NotifierTables, running, settings_for
from tests.support.command import taskbell
from tests.support.inbox import Inbox
from tests.support.kinds import KINDS, WEEKLY
from tests.support.management import Management
from tests.support.scripted_smtp import ScriptedSmtp
from tests.support.waiting import eventually

from taskbell.client import AsyncClient
from taskbell.contracts import CommandOutcome, SendTestMail
from taskbell.http import operations
from taskbell_notifier.unsubscribe.tokens import Unsubscriber

EVENTS = "taskbell.events"
COMMANDS = "taskbell.commands"


async def test_a_report_is_mailed_to_every_operator_once_a_date(
    tables: NotifierTables, inbox: Inbox, database_url: str, broker_url: str, management: Management
) -> None:
    await tables.execute(
        "INSERT INTO taskbell.report (date, as_of, body, message_id)"
        " VALUES ('2026-11-22', now(), '{\"overdue\": 3, \"by_status\": {\"pending\": 7}}', 'r')"
    )
    settings = settings_for(
        database_url,
        smtp_port=inbox.port,
        broker_url=broker_url,
        report_recipients="a@example.org, b@example.org, A@example.org",
    )
    async with running(settings):
        for _ in range(2):
            body = {"date": "2026-11-22", "as_of": tables.now.isoformat()}
            await management.publish(EVENTS, "report.generated", body)
        first, second = await tables.completed(2)
    assert sorted(mail.recipient.lower() for mail in inbox.mails) == ["a@example.org", "b@example.org"]
    assert "3 overdue" in inbox.mails[0].message["Subject"]
    assert {first["counts"]["already"], second["counts"]["already"]} == {0, 2}


async def test_without_operators_a_report_is_mailed_to_nobody(
    tables: NotifierTables, inbox: Inbox, database_url: str, broker_url: str, management: Management
) -> None:
    async with running(settings_for(database_url, smtp_port=inbox.port, broker_url=broker_url)):
        body = {"date": "2026-11-22", "as_of": tables.now.isoformat()}
        await management.publish(EVENTS, "report.generated", body)
        await tables.completed(1)
    assert inbox.mails == []


async def test_a_test_mail_proves_that_mail_works_and_its_command_is_answered(
    tables: NotifierTables, inbox: Inbox, database_url: str, broker_url: str, management: Management
) -> None:
    async with running(settings_for(database_url, smtp_port=inbox.port, broker_url=broker_url)):
        for _ in range(3):
            await management.publish(
                COMMANDS,
                "notifier.send_test_mail",
                {"to": "ops@example.org"},
                properties={"message_id": "t1"},
            )
        await management.publish(COMMANDS, "notifier.send_test_mail", {"to": "ops@-x.example"})
        await management.publish(COMMANDS, "notifier.send_test_mail", {"to": 7})
        await tables.completed(1)

        async def all_commands() -> bool:
            return await tables.value("SELECT count(*) FROM taskbell.command") == 3

        await eventually(all_commands)
    (mail,) = inbox.mails
    assert mail.recipient == "ops@example.org"
    row = await tables.delivery()
    assert (row["recipient"], row["period"], row["state"]) == ("address:ops@example.org", "t1", "sent")
    commands = await tables.rows(
        "SELECT message_id, state, reason, result::text AS result FROM taskbell.command ORDER BY state, reason"
    )
    assert (commands[0]["message_id"], commands[0]["state"]) == ("t1", "done")
    assert json.loads(commands[0]["result"]) == {"delivery_id": row["id"], "mailing_id": row["mailing_id"]}
    assert [command["state"] for command in commands[1:]] == ["rejected", "rejected"]
    assert {command["reason"] for command in commands[1:]} == {"no valid address", "to: Input should be a valid string"}


async def test_with_the_mail_server_away_readiness_is_degraded_and_everything_else_goes_on(
    tables: NotifierTables, database_url: str, broker_url: str, management: Management, server: ScriptedSmtp
) -> None:
    await tables.late_people(*range(1, 21))
    server.rule("CONNECT", drop=True)
    settings = settings_for(database_url, smtp_port=server.port, broker_url=broker_url, mail_pool_size=2)
    async with running(settings) as notifier:
        await management.publish(EVENTS, "overdue.due", {})
        await eventually(lambda: notifier.process.health.report()["status"] == "degraded")
        assert notifier.process.health.ready
        assert notifier.process.health.report()["parts"]["smtp"]["state"] == "degraded"
        await management.publish(COMMANDS, "notifier.send_test_mail", {"to": "ops@example.org"})

        async def waits() -> bool:
            reason = await tables.value("SELECT reason FROM taskbell.awaited_command")
            return (reason or "").startswith("sending is paused: connect: ")

        await eventually(waits)
        assert await tables.value("SELECT count(*) FROM taskbell.command") == 0
        assert await tables.value("SELECT sum(attempts) FROM taskbell.delivery") == 0
        server.clear()
        await tables.all_ended(21)

        async def answered() -> bool:
            return bool(await tables.value("SELECT count(*) FROM taskbell.command WHERE state = 'done'"))

        await eventually(answered)
    assert len(server.accepted) == 21
    assert len({mail.recipients for mail in server.accepted}) == 21


async def test_two_notifiers_share_a_mailing(
    tables: NotifierTables, inbox: Inbox, database_url: str, broker_url: str, management: Management
) -> None:
    await tables.late_people(*range(1, 301))
    settings = settings_for(database_url, smtp_port=inbox.port, broker_url=broker_url)
    async with running(settings), running(settings):
        await management.publish(EVENTS, "overdue.due", {})
        (mailing,) = await tables.completed(1)
    assert mailing["counts"]["sent"] == 300
    assert sorted(mail.recipient for mail in inbox.mails) == sorted(f"user{n}@example.org" for n in range(1, 301))


async def test_whoever_unsubscribes_gets_no_more_of_those_mails(
    tables: NotifierTables, inbox: Inbox, database_url: str, broker_url: str, management: Management
) -> None:
    await tables.late_people(1)
    settings = settings_for(
        database_url,
        smtp_port=inbox.port,
        broker_url=broker_url,
        public_url="https://t.example.org",
        secret_key="a secret of the tests",
    )
    async with running(settings) as notifier:
        await management.publish(EVENTS, "overdue.due", {})
        await tables.completed(1)
        url = inbox.mails[0].message["List-Unsubscribe"].strip("<>")
        assert url.startswith("https://t.example.org/u/")
        web = Starlette(routes=list(notifier.application.routes))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(web), base_url="https://t.example.org") as client:
            answer = await client.post(url, data={"List-Unsubscribe": "One-Click"})
        assert answer.status_code == 200
        await management.publish(EVENTS, "overdue.due", {"force": True})
        _, second = await tables.completed(2)
    assert second["counts"]["skipped"] == 1
    assert len(inbox.mails) == 1
    rows = await tables.rows("SELECT user_id, kind, enabled FROM taskbell.preference")
    assert [dict(row) for row in rows] == [{"user_id": 1, "kind": "overdue", "enabled": False}]


async def test_public_port_splits_the_unsubscribe_page_off(
    tables: NotifierTables, database_url: str, broker_url: str
) -> None:
    given = {"public_url": "https://t.example.org", "secret_key": "a secret of the tests"}
    async with running(settings_for(database_url, broker_url=broker_url, **given)) as together:
        assert {route.path for route in together.application.routes} == {"/u/{token}", "/u/{token}/"}  # type: ignore[attr-defined]
        assert not together.application.servers
    async with running(settings_for(database_url, broker_url=broker_url, public_port=0, **given)) as apart:
        assert not apart.application.routes
        (server,) = apart.application.servers
        server.bind()
        stop = asyncio.Event()
        serving = asyncio.create_task(server.run(stop))
        token = Unsubscriber(KINDS, "a secret of the tests").token(1, WEEKLY)
        async with httpx.AsyncClient(trust_env=False) as client:

            async def answers() -> int:
                try:
                    return (await client.get(f"{server.url}/u/{token}")).status_code
                except httpx.ConnectError:
                    return 0

            assert await eventually(answers) == 200
            assert (await client.get(f"{server.url}/metrics")).status_code == 404
        stop.set()
        await serving


async def test_metrics_count_mails_by_kind_and_state(
    tables: NotifierTables, inbox: Inbox, database_url: str, broker_url: str, management: Management
) -> None:
    await tables.late_people(1, 2)
    async with running(settings_for(database_url, smtp_port=inbox.port, broker_url=broker_url)) as notifier:
        await management.publish(EVENTS, "overdue.due", {})
        await tables.completed(1)
        web = Starlette(routes=operations(notifier.process.health, notifier.process.metrics))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(web), base_url="http://here") as client:
            text = (await client.get("/metrics")).text
    assert 'taskbell_mails_total{kind="overdue",state="sent"} 2.0' in text
    assert "taskbell_mail_resends_total 0.0" in text


@asynccontextmanager
async def process(database_url: str, broker_url: str, smtp_port: int, **given: Any) -> AsyncIterator[Any]:
    """The notifier as a process of its own; killed at the end where it still runs."""
    environment = {
        "PATH": os.environ["PATH"],
        "DATABASE_URL": database_url,
        "BROKER_URL": broker_url,
        "MAIL_SERVER": "127.0.0.1",
        "MAIL_PORT": str(smtp_port),
        "MAIL_DEFAULT_SENDER": "bell@example.org",
        "MAIL_POOL_SIZE": "2",
    } | {name.upper(): str(value) for name, value in given.items()}
    started = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "taskbell_notifier", env=environment, cwd="/", stderr=asyncio.subprocess.DEVNULL
    )
    try:
        yield started
    finally:
        if started.returncode is None:
            started.kill()
            await started.wait()


async def test_told_to_stop_it_finishes_what_has_begun_returns_the_rest_and_exits_with_0(
    tables: NotifierTables, database_url: str, broker_url: str, management: Management, server: ScriptedSmtp
) -> None:
    await tables.late_people(*range(1, 31))
    server.rule("DOT", hold=True)
    await management.publish(EVENTS, "overdue.due", {})
    async with process(database_url, broker_url, server.port) as notifier:
        await server.until(lambda: sum(connection.messages for connection in server.connections) == 2, 60)
        notifier.send_signal(signal.SIGTERM)

        async def returned() -> bool:
            states = await tables.rows("SELECT state, count(*) AS rows FROM taskbell.delivery GROUP BY state")
            return {row["state"]: row["rows"] for row in states} == {"sending": 2, "planned": 28}

        await eventually(returned)
        server.release()
        assert await notifier.wait() == 0
    server.clear()
    rows = await tables.rows("SELECT state, attempts, count(*) AS rows FROM taskbell.delivery GROUP BY 1, 2 ORDER BY 1")
    assert [tuple(row.values()) for row in rows] == [("planned", 0, 28), ("sent", 1, 2)]
    assert len(server.accepted) == 2


@pytest.mark.parametrize("signal_number", [signal.SIGKILL])
async def test_after_a_kill_in_the_middle_everybody_has_one_mail_but_for_those_in_the_data(
    tables: NotifierTables,
    database_url: str,
    broker_url: str,
    management: Management,
    server: ScriptedSmtp,
    signal_number: int,
) -> None:
    await tables.late_people(*range(1, 201))
    given = {"mail_lease_seconds": 3, "mail_data_timeout": 2}
    async with process(database_url, broker_url, server.port, **given) as first:
        await management.publish(EVENTS, "overdue.due", {})
        await server.until(lambda: len(server.accepted) >= 20, 60)
        server.rule("DOT", hold=True, accept=True)
        await server.until(lambda: sum(connection.messages for connection in server.connections) >= 22, 60)
        first.send_signal(signal_number)
        await first.wait()
    server.clear()
    cut_off = await tables.value("SELECT count(*) FROM taskbell.delivery WHERE phase = 'data'")
    # Twice MAIL_POOL_SIZE: a connection takes its next mail while the outcome of the last is being committed.
    assert 2 <= cut_off <= 4
    # The slack beyond the data timeout is a minute: the test does not wait for it.
    await tables.execute("UPDATE taskbell.delivery SET lease_until = now(), due_at = now() WHERE phase = 'data'")
    await tables.execute("UPDATE taskbell.delivery SET due_at = now() + interval '4 seconds' WHERE phase = 'envelope'")
    async with process(database_url, broker_url, server.port, **given):
        await tables.all_ended(200)
    assert set((await tables.states()).values()) == {"sent"}
    copies: dict[str, int] = {}
    for mail in server.accepted:
        copies[mail.message_id] = copies.get(mail.message_id, 0) + 1
    assert len(copies) == 200
    assert sum(count - 1 for count in copies.values()) == cut_off
    assert max(copies.values()) <= 2
    assert await tables.value("SELECT sum(resends) FROM taskbell.delivery") == cut_off


@pytest.mark.parametrize(
    ("at", "rule", "words"),
    [
        ("CONNECT", {"drop": True}, "connect"),
        ("CONNECT", {"reply": "554 5.7.1 go away"}, "554 5.7.1 go away"),
        ("EHLO", {"reply": "421 4.3.2 closing"}, "421 4.3.2 closing"),
        ("AUTH", {"reply": "535 5.7.8 wrong password"}, "535 5.7.8 wrong password"),
        ("AUTH", {"reply": "454 4.7.0 later"}, "454 4.7.0 later"),
    ],
)
async def test_readiness_says_what_is_wrong_with_the_mail_server_before_the_first_mail(
    tables: NotifierTables,
    database_url: str,
    broker_url: str,
    server: ScriptedSmtp,
    at: str,
    rule: dict[str, Any],
    words: str,
) -> None:
    server.rule(at, **rule)
    server.users, server.mechanisms = {"u": "p"}, ("PLAIN",)
    settings = settings_for(
        database_url, smtp_port=server.port, broker_url=broker_url, mail_username="u", mail_password="p"
    )
    async with running(settings) as notifier:
        await eventually(lambda: notifier.process.health.report()["status"] == "degraded")
        smtp = notifier.process.health.report()["parts"]["smtp"]
        assert words in smtp["detail"].lower() or words in smtp["detail"]
        assert notifier.process.health.ready
        server.clear()
        if at != "AUTH" or rule["reply"].startswith("4"):
            await eventually(lambda: notifier.process.health.report()["status"] == "ready")
    assert not any(b"MAIL FROM" in connection.received for connection in server.connections)


async def test_a_mail_server_that_works_is_probed_and_left(
    database_url: str, broker_url: str, server: ScriptedSmtp
) -> None:
    async with running(settings_for(database_url, smtp_port=server.port, broker_url=broker_url)) as notifier:
        await eventually(lambda: any(b"QUIT" in connection.received for connection in server.connections))
        assert notifier.process.health.report()["status"] == "ready"
    assert len(server.connections) == 1


async def test_mail_suppress_send_is_said_at_every_look_at_readiness_and_the_server_is_left_alone(
    database_url: str, broker_url: str, server: ScriptedSmtp
) -> None:
    settings = settings_for(database_url, smtp_port=server.port, broker_url=broker_url, mail_suppress_send=True)
    assert any(line.startswith("MAIL_SUPPRESS_SEND is set: no mail is sent") for line in settings.warnings())
    async with running(settings) as notifier:
        report = notifier.process.health.report()
        assert report["status"] == "degraded"
        assert report["parts"]["mail"]["detail"].startswith("MAIL_SUPPRESS_SEND is set: no mail is sent")
        assert notifier.process.metrics.registry.get_sample_value("taskbell_mail_suppress_send") == 1
        assert notifier.process.health.ready
    assert server.connections == []


@pytest.mark.parametrize(
    ("at", "reply", "reason"),
    [
        ("RCPT", "550 5.1.1 no such user", "the mail was not sent (failed): RCPT: 550 5.1.1 no such user"),
        ("DATA", "554 5.6.0 no", "the mail was not sent (failed): DATA: 554 5.6.0 no"),
        ("DOT", "554 5.6.0 spam", "the mail was not sent (failed): message: 554 5.6.0 spam"),
    ],
)
async def test_a_test_mail_that_the_server_refuses_is_rejected_with_its_words(
    tables: NotifierTables, database_url: str, broker_url: str, server: ScriptedSmtp, at: str, reply: str, reason: str
) -> None:
    server.rule(at, reply=reply)
    settings = settings_for(database_url, smtp_port=server.port, broker_url=broker_url)
    async with running(settings), AsyncClient(broker_url) as client:
        outcome = await client.request(SendTestMail(to="ops@example.org"), timeout=30)
        again = await client.request(SendTestMail(to="ops@example.org"), timeout=30, message_id=outcome.message_id)
    assert (outcome.state, outcome.reason) == ("rejected", reason)
    assert (again.state, again.reason) == (outcome.state, outcome.reason)
    assert await tables.value("SELECT count(*) FROM taskbell.awaited_command") == 0


async def test_whoever_asks_twice_is_answered_twice_when_another_process_has_sent_the_mail(
    tables: NotifierTables, database_url: str, broker_url: str, server: ScriptedSmtp, management: Management
) -> None:
    server.rule("CONNECT", drop=True)
    settings = settings_for(database_url, smtp_port=server.port, broker_url=broker_url)
    async with AsyncClient(broker_url) as client, AsyncClient(broker_url) as other:
        asked: list[asyncio.Task[CommandOutcome]] = []
        async with running(settings):
            asked += [
                asyncio.create_task(it.request(SendTestMail(to="ops@example.org"), timeout=60, message_id="t1"))
                for it in (client, other)
            ]

            async def both_wait() -> bool:
                return await tables.value("SELECT count(*) FROM taskbell.awaited_command WHERE reason <> ''") == 2

            await eventually(both_wait)
        assert not any(task.done() for task in asked)
        # No handler held them: they would have come back.
        assert (await management.depth("notifier.send_test_mail")).ready == 0
        server.clear()
        async with running(settings):
            outcomes = await asyncio.gather(*asked)
    assert [outcome.state for outcome in outcomes] == ["done", "done"]
    assert len(server.accepted) == 1
    assert await tables.value("SELECT state FROM taskbell.command WHERE message_id = 't1'") == "done"


async def test_at_the_end_of_wait_a_test_mail_under_way_says_what_it_waits_for(
    tables: NotifierTables, database_url: str, broker_url: str, server: ScriptedSmtp
) -> None:
    server.rule("RCPT", reply="450 4.2.1 try later")
    settings = settings_for(database_url, smtp_port=server.port, broker_url=broker_url)
    async with running(settings):
        done = await taskbell(
            *("publish", "notifier.send_test_mail", '{"to": "ops@example.org"}', "--wait", "5", "--message-id", "t1"),
            DATABASE_URL=database_url,
            BROKER_URL=broker_url,
        )
        shown = await taskbell("commands", "show", "t1", DATABASE_URL=database_url)
    assert done.status == 1
    assert "waiting, because the mail is tried again: RCPT: 450 4.2.1 try later" in done.err
    assert "because the mail is tried again: RCPT: 450 4.2.1 try later" in shown.out
    assert server.accepted == []
