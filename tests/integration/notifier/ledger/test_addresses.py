"""Addresses in the web app's tables: how they go out, and that each is one address in every table."""

import json
from datetime import UTC, date, datetime

import pytest
from tests.integration.notifier.ledger.notifier_parts import NotifierParts, planned
from tests.integration.notifier.ledger.support import NotifierTables, received
from tests.support.command import taskbell
from tests.support.scripted_smtp import ScriptedSmtp

from taskbell.contracts import OverdueDue, ReportGenerated
from taskbell_notifier.planning.report import ReportMails

USE = "UPDATE users SET email = :email WHERE id = 1"


@pytest.mark.parametrize(
    ("email", "spec"),
    [
        ("try..this@docomo.ne.jp", '"try..this"@docomo.ne.jp'),
        ("xxx.yyy.@docomo.ne.jp", '"xxx.yyy."@docomo.ne.jp'),
        ('"a b"@example.com', '"a b"@example.com'),
        ("ana@my_host.example", "ana@my_host.example"),
        ("ana@example.com.", "ana@example.com"),
        ("\u200bana＠example.com", "ana@example.com"),
        ("info@Bücher.example", "info@xn--bcher-kva.example"),
    ],
)
async def test_it_is_the_same_in_rcpt_to_and_ledger(
    tables: NotifierTables, parts: NotifierParts, server: ScriptedSmtp, email: str, spec: str
) -> None:
    await planned(tables, parts, server)
    await tables.execute(USE, email=email)
    await parts.send()
    row = await tables.delivery()
    assert (row["state"], row["address"]) == ("sent", spec)
    assert f"RCPT TO:<{spec}>\r\n".encode() in server.connections[0].received
    assert f'To: "User 1" <{spec}>\r\n'.encode() in server.accepted[0].raw.replace(b"To: User 1", b'To: "User 1"')


@pytest.mark.parametrize(
    ("stored", "email"),
    [
        # As former versions stored them: in lower case, as the tables had them.
        ("\u200bana@example.com", "\u200bAna@example.com"),
        ("ana@example.com.", "ana@example.com."),
        ("info@bücher.example", "info@Bücher.example"),
        ("info@bücher.example", "info@xn--bcher-kva.example"),
        # In the one form that all spellings have.
        ("ana@example.com", "\u200bAna@Example.com."),
        ("ana@example.com", "ana＠example.com"),
        ("info@xn--bcher-kva.example", "INFO@BÜCHER.example"),
        ('"a..b"@docomo.ne.jp', "A..B@docomo.ne.jp"),
        ("ana.b@example.com", '"Ana.B"@example.com'),
    ],
)
async def test_a_suppressed_address_gets_nothing_in_none_of_its_forms(
    tables: NotifierTables, parts: NotifierParts, server: ScriptedSmtp, stored: str, email: str
) -> None:
    await planned(tables, parts, server, 1, 2)
    await tables.execute(USE, email=email)
    await tables.execute("INSERT INTO taskbell.suppression (address, reason) VALUES (:stored, 'gone')", stored=stored)
    await parts.send()
    rows = await tables.deliveries()
    assert (rows["user:1"]["state"], rows["user:1"]["reason"]) == ("suppressed", "address suppressed: gone")
    assert rows["user:2"]["state"] == "sent"


async def test_an_address_that_is_refused_for_good_is_refused_in_all_its_forms(
    tables: NotifierTables, parts: NotifierParts, server: ScriptedSmtp
) -> None:
    await planned(tables, parts, server)
    await tables.execute(USE, email="\u200bInfo@Bücher.example.")
    server.rule("RCPT", reply="550 5.1.1 no such user")
    await parts.send()
    assert await tables.value("SELECT address FROM taskbell.suppression") == "info@xn--bcher-kva.example"
    server.clear()
    for number, email in enumerate(["info@BÜCHER.example", "info@xn--bcher-kva.example", "info＠bücher.example"]):
        await tables.execute(USE, email=email)
        await parts.plan(OverdueDue(user_ids=(1,), force=True), f"again {number}")
        await parts.send()
    states = [row["state"] for row in await tables.rows("SELECT state FROM taskbell.delivery ORDER BY id")]
    assert states == ["failed", "suppressed", "suppressed", "suppressed"]
    assert server.accepted == []


async def test_an_operator_who_is_named_twice_gets_one_report(
    tables: NotifierTables, parts: NotifierParts, server: ScriptedSmtp
) -> None:
    await tables.execute(
        "INSERT INTO taskbell.report (date, as_of, body, message_id) VALUES ('2026-11-22', now(), '{}', 'r')"
    )
    reports = ReportMails(
        tables.database,
        parts.outbox,
        recipients=["Ops@bücher.example", "ops@xn--bcher-kva.example.", '"ops"@BÜCHER.example'],
        expiry=parts.settings.expiry(parts.kinds),
        completion=parts.completion.wanted,
    )
    await reports.announce([received(ReportGenerated(date=date(2026, 11, 22), as_of=datetime.now(UTC)), "report")])
    parts.add_sender(server)
    await parts.send()
    row = await tables.delivery()
    assert (row["recipient"], row["state"]) == ("address:ops@xn--bcher-kva.example", "sent")
    assert len(server.accepted) == 1


@pytest.mark.parametrize("asked", ["ana.b@example.com", '"Ana.B"@EXAMPLE.com.', "\u200bana.b＠example.com"])
async def test_why_finds_a_person_by_every_form_of_their_address(
    tables: NotifierTables, parts: NotifierParts, database_url: str, asked: str
) -> None:
    await tables.late_people(1, 2, 3, 4)
    forms = {1: "\ufeffAna.B @example.com", 2: '"ana.b"@Example.com', 3: "ana.bc@example.com", 4: "ana.b@example.org"}
    for number, email in forms.items():
        await tables.execute("UPDATE users SET email = :email WHERE id = :id", id=number, email=email)
    await parts.plan()
    done = await taskbell("mail", "why", "--address", asked, "--json", DATABASE_URL=database_url)
    assert done.status == 0, done.err
    assert {row["recipient"] for row in json.loads(done.out)} == {"user:1", "user:2"}
