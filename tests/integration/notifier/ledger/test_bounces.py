"""`notifier.report_bounce`: believed about mails that were ours, and about no others."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from tests.integration.notifier.ledger.support import NotifierTables, running, settings_for
from tests.support.inbox import Inbox
from tests.support.management import Management
from tests.support.waiting import eventually

TOKEN = "0f8fad5bd9cb469fa16570867728950e"
MINE = f"<overdue.1.{TOKEN}@example.org>"


class Reports:
    """Reports bounces to a running notifier."""

    def __init__(self, tables: NotifierTables, management: Management) -> None:
        self._tables, self._management, self._sent = tables, management, 0

    async def __call__(self, **body: Any) -> tuple[str, str | None]:
        """The command's state and reason."""
        self._sent += 1
        number = f"b{self._sent}"
        await self._management.publish(
            "taskbell.commands", "notifier.report_bounce", body, properties={"message_id": number}
        )

        async def answered() -> Any:
            return await self._tables.rows(
                "SELECT state, reason FROM taskbell.command WHERE message_id = :id", id=number
            )

        (row,) = await eventually(answered)
        return row["state"], row["reason"]

    async def suppressed(self) -> dict[str, str]:
        rows = await self._tables.rows("SELECT address, reason FROM taskbell.suppression ORDER BY address")
        return {row["address"]: row["reason"] for row in rows}


@pytest_asyncio.fixture
async def report(
    tables: NotifierTables, database_url: str, broker_url: str, management: Management, inbox: Inbox
) -> AsyncIterator[Reports]:
    """A running notifier, whose ledger has a mail to user 1 of an hour ago, and one to user 2 of 31 days ago."""
    await tables.late_people(1, 2, 3)
    await tables.execute(
        "INSERT INTO taskbell.mailing (message_id, kind, body_digest, state, completed_at)"
        " VALUES ('m', 'overdue', '', 'completed', now())"
    )
    for user, age in ((1, "1 hour"), (2, "31 days")):
        await tables.execute(
            "INSERT INTO taskbell.delivery (mailing_id, kind, recipient, user_id, period, state, due_at, expires_at,"
            " address, mail_message_id, ended_at) SELECT id, 'overdue', :recipient, :user, 'p', 'sent', now(), now(),"
            f" :address, :message, now() - interval '{age}' FROM taskbell.mailing",
            recipient=f"user:{user}",
            user=user,
            address=f"User{user}@example.org",
            message=MINE.replace(".1.", f".{user}."),
        )
    settings = settings_for(database_url, smtp_port=inbox.port, broker_url=broker_url)
    async with running(settings):
        yield Reports(tables, management)


async def test_hard_bounces_and_complaints_suppress_and_soft_ones_are_counted(
    report: Reports, tables: NotifierTables
) -> None:
    assert await report(type="soft", message_id=MINE) == ("done", None)
    assert await report.suppressed() == {}
    assert await report(type="hard", message_id=MINE, reason="550 5.1.1 <user1@example.org> unknown\r\nX") == (
        "done",
        None,
    )
    assert await report.suppressed() == {"user1@example.org": "reported as hard: 550 5.1.1 <address> unknown X"}
    assert await report(type="complaint", message_id=MINE.strip("<>")) == ("unchanged", None)
    result = await tables.value("SELECT result::text FROM taskbell.command WHERE message_id = 'b2'")
    assert json.loads(result) == {"delivery_id": 1, "suppressed": True}


@pytest.mark.parametrize("written", [" user1@EXAMPLE.org ", "\u200buser1\uff20example.org."])
async def test_an_address_that_was_mailed_in_the_last_30_days_is_enough(report: Reports, written: str) -> None:
    assert (await report(type="complaint", address=written))[0] == "done"
    assert list(await report.suppressed()) == ["user1@example.org"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({}, "give message_id"),
        ({"message_id": " ", "address": ""}, "give message_id"),
        ({"message_id": f"<overdue.1.{'0' * 32}@example.org>"}, "no mail of ours"),
        ({"message_id": "<overdue.1@example.org>"}, "no mail of ours"),
        ({"message_id": MINE.replace(".1.", ".3.")}, "no mail of ours"),
        ({"message_id": MINE.replace(".1.", f".{10**18}.")}, "no mail of ours"),
        ({"message_id": "%"}, "no mail of ours"),
        ({"message_id": MINE, "address": "user3@example.org"}, "another address"),
        ({"address": "user2@example.org"}, "no mail went to this address"),
        ({"address": "user3@example.org"}, "no mail went to this address"),
        ({"address": "stranger@example.org"}, "no mail went to this address"),
    ],
)
async def test_what_was_not_ours_is_rejected(report: Reports, body: dict[str, Any], reason: str) -> None:
    state, said = await report(type="hard", **body)
    assert state == "rejected"
    assert said is not None
    assert reason in said
    assert await report.suppressed() == {}
