"""What ends a session, or loses commands, costs no mail a try; and no mail goes twice for it."""

import pytest
from tests.integration.notifier.ledger.notifier_parts import NotifierParts, planned
from tests.integration.notifier.ledger.support import NotifierTables
from tests.support.odd_smtp import Dialect, OddSmtp
from tests.support.scripted_smtp import ScriptedSmtp

DUE_AGAIN = "UPDATE taskbell.delivery SET next_attempt_at = now(), due_at = now() WHERE ended_at IS NULL"


@pytest.mark.parametrize("at", ["MAIL", "RCPT", "DATA", "DOT"])
@pytest.mark.parametrize("reply", ["421 4.7.0 enough for this session", "452 4.5.3 too many recipients"])
async def test_a_session_that_the_server_ends_costs_no_try(
    tables: NotifierTables, parts: NotifierParts, server: ScriptedSmtp, at: str, reply: str
) -> None:
    await planned(tables, parts, server)
    server.rule(at, reply=reply, drop=reply.startswith("421"), times=1)
    await parts.send()
    # Before the message the mail goes on at once; after it, the row goes back.
    if at == "DOT":
        row = await tables.delivery()
        assert (row["state"], row["attempts"], row["phase"]) == ("planned", 0, None)
        assert reply in row["reason"]
        await tables.execute(DUE_AGAIN)
        await parts.send()
    row = await tables.delivery()
    assert (row["state"], row["attempts"], row["resends"]) == ("sent", 1, 0)
    assert [mail.message_id for mail in server.accepted] == [row["mail_message_id"]]


async def test_the_one_resend_of_an_uncertain_mail_is_not_spent_on_a_session_that_ends(
    tables: NotifierTables, parts: NotifierParts, server: ScriptedSmtp
) -> None:
    await planned(tables, parts, server)
    lost = server.rule("DOT", drop=True, times=1)
    await parts.send()
    assert (await tables.delivery())["state"] == "unknown"
    server.rules.remove(lost)
    server.rule("DOT", reply="421 4.7.0 enough", drop=True, times=1)
    for state, resends in (("unknown", 0), ("sent", 1)):
        await tables.execute(DUE_AGAIN)
        await parts.send()
        row = await tables.delivery()
        assert (row["state"], row["resends"]) == (state, resends)
    assert len(server.accepted) == 1


@pytest.mark.parametrize(
    "dialect", [Dialect(keeps=1), Dialect(refuses_groups="503 5.5.1 bad sequence\r\n")], ids=["silent", "503"]
)
async def test_lost_commands_cost_no_try_and_nobody_gets_two_mails(
    tables: NotifierTables, parts: NotifierParts, dialect: Dialect
) -> None:
    people = range(1, 21)
    async with OddSmtp(dialect) as server:
        await tables.late_people(*people)
        await parts.plan()
        parts.add_sender(server, timeout=0.5, pool_size=4)
        await parts.send()
        rows = await tables.deliveries()
        assert {(row["state"], row["attempts"]) for row in rows.values()} == {("sent", 1)}
        assert sorted(recipient for recipient, _ in server.mails) == sorted(f"<user{it}@example.org>" for it in people)


async def test_a_mail_that_is_lost_after_its_message_was_begun_stays_uncertain_on_such_a_server(
    tables: NotifierTables, parts: NotifierParts
) -> None:
    async with OddSmtp(Dialect({".": ""}, keeps=1)) as server:
        await tables.late_people(1)
        await parts.plan()
        parts.add_sender(server, timeout=0.5, data_timeout=0.5)
        await parts.send()
        row = await tables.delivery()
        assert (row["state"], row["attempts"]) == ("unknown", 1)
        assert server.verbs.count("DATA") == 1
