"""`taskbell deliveries resend`: exactly the mails that were not sent, again, and each once."""

import asyncio
import json
from collections.abc import Callable
from datetime import timedelta

import asyncpg
import pytest
from tests.integration.notifier.ledger.notifier_parts import NotifierParts, planned
from tests.integration.notifier.ledger.support import DAY, HOUR, NotifierTables
from tests.support.command import taskbell
from tests.support.roles import all_roles, allows, connected
from tests.support.scripted_smtp import ScriptedSmtp
from tests.support.servers import ServerUrls
from typer.testing import CliRunner, Result

from taskbell_notifier.cli.deliveries import app

Run = Callable[..., Result]


@pytest.fixture
def run(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("DATABASE_URL", database_url)

    def call(*arguments: str) -> Result:
        return CliRunner().invoke(app, list(arguments))

    return call


async def resend(run: Run, *arguments: str) -> dict[str, int]:
    """What the command says as JSON; it has an event loop of its own."""
    done = await asyncio.to_thread(run, "resend", *arguments, "--json")
    if done.exception is not None:
        raise done.exception
    found: dict[str, int] = json.loads(done.stdout)
    return found


async def ended(tables: NotifierTables, parts: NotifierParts, server: ScriptedSmtp, **states: str) -> int:
    """A mailing whose mails ended in these states a day ago, by user; returns its id."""
    await planned(tables, parts, server, *(int(user.removeprefix("user")) for user in states))
    for user, state in states.items():
        await tables.execute(
            "UPDATE taskbell.delivery SET state = :state, reason = 'so', ended_at = now(), attempts = 1,"
            " address = :address WHERE recipient = :recipient",
            state=state,
            address=f"{user}@example.org",
            recipient=f"user:{user.removeprefix('user')}",
        )
    await tables.execute(
        "UPDATE taskbell.delivery SET created_at = created_at - interval '1 day',"
        " expires_at = expires_at - interval '1 day'"
    )
    await tables.execute("UPDATE taskbell.mailing SET at = at - interval '1 day'")
    await parts.completion.complete()
    return int(await tables.value("SELECT id FROM taskbell.mailing"))


async def test_exactly_those_that_ended_so_are_mailed_again(
    tables: NotifierTables, parts: NotifierParts, server: ScriptedSmtp, run: Run
) -> None:
    states = {"user1": "failed", "user2": "expired", "user3": "sent", "user4": "skipped", "user5": "suppressed"}
    mailing = await ended(tables, parts, server, **states)
    answer = await resend(run, "--mailing", str(mailing), "--state", "failed,expired")
    assert answer["planned"] == 2
    (batch,) = [it for it in await tables.outbox("notifier.send_batch") if len(it["delivery_ids"]) == 2]
    await parts.send(batch["delivery_ids"])
    assert sorted(mail.recipients[0] for mail in server.accepted) == ["user1@example.org", "user2@example.org"]
    rows = await tables.rows("SELECT recipient, period, run, state FROM taskbell.delivery WHERE run = 1 ORDER BY id")
    assert [(row["recipient"], row["state"]) for row in rows] == [("user:1", "sent"), ("user:2", "sent")]
    await parts.completion.complete()
    (completed,) = await tables.rows(
        "SELECT planned, counts::text AS counts, note FROM taskbell.mailing WHERE id = :id", id=answer["mailing_id"]
    )
    assert json.loads(completed["counts"])["sent"] == 2
    assert str(mailing) in completed["note"]


async def test_used_twice_it_mails_nobody_twice(
    tables: NotifierTables, parts: NotifierParts, server: ScriptedSmtp, run: Run
) -> None:
    mailing = await ended(tables, parts, server, user1="failed", user2="failed")
    assert (await resend(run, "--mailing", str(mailing), "--state", "failed"))["planned"] == 2
    assert (await resend(run, "--mailing", str(mailing), "--state", "failed"))["planned"] == 0
    await parts.send()
    assert (await resend(run, "--mailing", "m1", "--state", "failed,expired"))["planned"] == 0
    assert len(server.accepted) == 2
    assert await tables.value("SELECT count(*) FROM taskbell.mailing") == 2, "no mailing without mails is left"


async def test_a_later_run_of_unknown_outcome_keeps_the_first_one_from_being_planned_again(
    tables: NotifierTables, parts: NotifierParts, server: ScriptedSmtp, run: Run
) -> None:
    mailing = await ended(tables, parts, server, user1="failed")
    assert (await resend(run, "--mailing", str(mailing), "--state", "failed"))["planned"] == 1
    await tables.execute(
        "UPDATE taskbell.delivery SET state = 'failed', unknown_at = now(), ended_at = now() WHERE run = 1"
    )
    assert (await resend(run, "--mailing", str(mailing), "--state", "failed"))["planned"] == 0


async def test_two_at_once_plan_each_mail_once(
    tables: NotifierTables, parts: NotifierParts, server: ScriptedSmtp, database_url: str
) -> None:
    mailing = await ended(tables, parts, server, **{f"user{number}": "failed" for number in range(1, 31)})
    call = "SELECT planned FROM taskbell.resend($1, NULL, ARRAY['failed'])"
    connections = [await asyncpg.connect(database_url) for _ in range(4)]
    try:
        found = await asyncio.gather(*(it.fetchval(call, mailing) for it in connections))
    finally:
        for it in connections:
            await it.close()
    assert sorted(found) == [0, 0, 0, 30]


async def test_one_that_failed_again_may_be_planned_again(
    tables: NotifierTables, parts: NotifierParts, server: ScriptedSmtp, run: Run
) -> None:
    mailing = await ended(tables, parts, server, user1="failed")
    first = await resend(run, "--mailing", str(mailing), "--state", "failed")
    await tables.execute("UPDATE taskbell.delivery SET state = 'failed', ended_at = now() WHERE run = 1")
    again = await resend(run, "--mailing", str(first["mailing_id"]), "--state", "failed")
    assert again["planned"] == 1
    left = await tables.value("SELECT expires_at - now() FROM taskbell.delivery WHERE run = 2")
    assert 12 * HOUR - timedelta(minutes=5) < left <= 12 * HOUR


async def test_it_expires_as_long_after_now_as_it_first_did_after_its_time(
    tables: NotifierTables, parts: NotifierParts, server: ScriptedSmtp, run: Run
) -> None:
    mailing = await ended(tables, parts, server, user1="expired")
    await resend(run, "--mailing", str(mailing), "--state", "expired")
    (row,) = await tables.rows(
        "SELECT d.expires_at - d.created_at AS lasts, m.at FROM taskbell.delivery AS d"
        " JOIN taskbell.mailing AS m ON m.id = d.mailing_id WHERE d.run = 1"
    )
    assert row["lasts"] == 12 * HOUR
    assert tables.now - row["at"] > DAY - HOUR, "what it says is still about its own time"


@pytest.mark.parametrize("state", ["sent", "skipped", "planned"])
async def test_a_mail_that_was_sent_or_may_yet_be_is_not_planned_again(
    state: str, tables: NotifierTables, parts: NotifierParts, server: ScriptedSmtp, run: Run
) -> None:
    await ended(tables, parts, server, user1=state)
    row = await tables.delivery()
    with pytest.raises(Exception, match=f"mail {row['id']} is {state}"):
        await resend(run, str(row["id"]))
    assert len(await tables.deliveries()) == 1


async def test_a_mail_of_unknown_outcome_is_not_planned_again(
    tables: NotifierTables, parts: NotifierParts, server: ScriptedSmtp, run: Run
) -> None:
    mailing = await ended(tables, parts, server, user1="failed", user2="failed")
    await tables.execute("UPDATE taskbell.delivery SET unknown_at = now() WHERE recipient = 'user:1'")
    row = (await tables.deliveries())["user:1"]
    with pytest.raises(Exception, match="may have been sent"):
        await resend(run, str(row["id"]))
    assert (await resend(run, "--mailing", str(mailing), "--state", "failed"))["planned"] == 1


async def test_one_mail_is_planned_by_its_id(
    tables: NotifierTables, parts: NotifierParts, server: ScriptedSmtp, run: Run
) -> None:
    await ended(tables, parts, server, user1="failed", user2="failed")
    row = (await tables.deliveries())["user:2"]
    assert (await resend(run, str(row["id"])))["planned"] == 1
    assert (await resend(run, str(row["id"])))["planned"] == 0
    await parts.send()
    assert [mail.recipients[0] for mail in server.accepted] == ["user2@example.org"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "either the ID"),
        (("1", "--mailing", "1"), "either the ID"),
        (("--mailing", "1"), "--state failed,expired"),
        (("--mailing", "1", "--state", "sent"), "'sent' are not planned again"),
        (("--mailing", "1", "--state", "fialed"), "Did you mean|did you mean"),
        (("--mailing", "77", "--state", "failed"), "there is no mailing 77"),
        (("77",), "there is no mail 77"),
    ],
)
async def test_a_mistake_is_told(arguments: tuple[str, ...], words: str, tables: NotifierTables, run: Run) -> None:
    with pytest.raises(Exception, match=words):
        await resend(run, *arguments)


async def test_the_operators_role_may_and_the_apps_may_not(servers: ServerUrls) -> None:
    async with all_roles(servers) as roles:
        async with connected(roles.admin_url) as admin:
            await admin.execute("""
                INSERT INTO public.users (id, name, email, is_active) VALUES (1, 'Ada', 'ada@example.org', true);
                INSERT INTO taskbell.mailing (message_id, kind, body_digest, first_delivery, last_delivery)
                    VALUES ('m1', 'overdue', '', 1, 9);
                INSERT INTO taskbell.delivery (mailing_id, kind, recipient, user_id, period, state, due_at, expires_at,
                    ended_at) SELECT id, kind, 'user:1', 1, '2026-01-01', 'failed', now(), now() + interval '12 h',
                    now() FROM taskbell.mailing;
                INSERT INTO taskbell.suppression (address, reason) VALUES ('ada@example.org', 'RCPT: 550 5.1.1 no');
            """)
        done = await taskbell(
            "deliveries", "resend", "--mailing", "m1", "--state", "failed", DATABASE_URL=roles.database_url("operator")
        )
        assert (done.status, done.out.partition(",")[0]) == (0, "1 mail is planned again"), done.err
        listed = await taskbell("suppressions", "list", "--json", DATABASE_URL=roles.database_url("operator"))
        assert [it["address"] for it in json.loads(listed.out)] == ["ada@example.org"]
        lifted = await taskbell(
            "suppressions", "lift", " Ada@Example.org", "bob@example.org", DATABASE_URL=roles.database_url("operator")
        )
        assert (lifted.status, lifted.out) == (0, "1 lifted.\nbob@example.org is not suppressed.\n"), lifted.err
        call = "SELECT taskbell.resend(1, NULL, ARRAY['failed'])"
        for role, may in (("app", False), ("scheduler", False), ("maintenance", False), ("notifier", True)):
            async with connected(roles.database_url(role)) as connection:
                assert await allows(connection, call) is may
