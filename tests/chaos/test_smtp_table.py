"""What every answer, drop and delay at every verb does to a mail: docs/guarantee.md's "every reply", row by row.

The expectations below are written by hand. Timeouts are shortened: 60 s are to MAIL_TIMEOUT (here 2 s, by default 30)
what a server is that does not answer in time; and waits between tries, once seen to be as long as they should, are
declared over.
"""

import random
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.chaos.support.figures import Figures
from tests.chaos.support.mail_scenario import MailScenario, address_of, mail_scenario
from tests.chaos.support.plan import Plan
from tests.support.scripted_smtp import Certificate
from tests.support.vhosts import Vhost

TIMEOUT = 2.0
"""Seconds that the notifier waits for any reply but the last."""

DATA_TIMEOUT = 4.0
"""Seconds that it waits for the reply to the message."""


@dataclass(frozen=True)
class Ending:
    """What becomes of a mail: after the try that met the trouble, and once the server is as it should be."""

    after: tuple[str, int]
    """State and tries."""
    end: tuple[str, int]
    taken: int
    """How often the server has the mail in the end."""


FAULT = Ending(after=("planned", 0), end=("sent", 1), taken=1)
RETRY = Ending(after=("retry", 1), end=("sent", 2), taken=1)
FAILED = Ending(after=("failed", 1), end=("failed", 1), taken=0)
UNKNOWN = Ending(after=("unknown", 1), end=("sent", 2), taken=1)
TAKEN_UNHEARD = Ending(after=("unknown", 1), end=("sent", 2), taken=2)
SENT = ("sent", 1, "message: 250 2.0.0 taken")
"""A row without any trouble."""
PAUSES = None
"""A configuration fault: tests/chaos/test_smtp_paused.py."""

ANSWERS: dict[str, tuple[dict[str, Any], str]] = {
    # what the server does, and how the ledger names it
    "4xx": ({"reply": "451 4.3.0 later"}, "451 4.3.0 later"),
    "5xx": ({"reply": "554 5.7.0 no"}, "554 5.7.0 no"),
    "drop": ({"drop": True}, "connection lost"),
    "60s": ({"delay": 60.0}, "no reply in time"),
    "1Bs": ({"bytes_per_second": 1.0}, "no reply in time"),
}

OPENING = {
    # at          stage       4xx     5xx     drop    60 s    1 byte a second
    "CONNECT": ("connect", (FAULT, FAULT, FAULT, FAULT, FAULT)),
    "EHLO": ("EHLO", (FAULT, FAULT, FAULT, FAULT, FAULT)),
    "STARTTLS": ("STARTTLS", (FAULT, FAULT, FAULT, FAULT, FAULT)),
    "AUTH": ("AUTH", (FAULT, PAUSES, FAULT, FAULT, FAULT)),
    "MAIL": ("MAIL", (RETRY, PAUSES, RETRY, RETRY, RETRY)),
}
HANDING_OVER = {
    "RCPT": ("RCPT", (RETRY, FAILED, RETRY, RETRY, RETRY)),
    "DATA": ("DATA", (RETRY, FAILED, RETRY, RETRY, RETRY)),
    "BODY": ("message", (RETRY, FAILED, UNKNOWN, UNKNOWN, None)),
    "DOT": ("message", (RETRY, FAILED, UNKNOWN, UNKNOWN, TAKEN_UNHEARD)),
}


def scripted(at: str, answer: str) -> tuple[dict[str, Any], str]:
    """What the server does there, and how the ledger names it.

    From RCPT on a 5xx names the recipient, in words of its own: else it would be nobody's fault, or everybody's
    (tests/integration/notifier/ledger/test_refusals.py).
    """
    if answer == "5xx" and at in HANDING_OVER:
        words = f"554 5.2.1 no, says {at}"
        return {"reply": words}, words
    return ANSWERS[answer]


@dataclass(frozen=True)
class Cell:
    """One mail's trouble."""

    at: str
    answer: str
    stage: str
    ending: Ending
    prefix: str

    @property
    def name(self) -> str:
        """Of the person who gets this mail, or does not."""
        return f"{self.prefix}{self.at}-{self.answer}".lower()

    @property
    def after(self) -> tuple[str, int, str]:
        """How the row stands after the try, with the server's words, or ours where it said nothing.

        While a session is being opened those are the SMTP library's; where it happened is what counts.
        """
        words = (
            ""
            if self.ending is FAULT and self.answer not in ("4xx", "5xx")
            else f" {scripted(self.at, self.answer)[1]}"
        )
        return (*self.ending.after, f"{self.stage}:{words}")


def cells(table: Mapping[str, tuple[str, tuple[Ending | None, ...]]], prefix: str = "") -> list[Cell]:
    """The table's cells, but those that are another test's."""
    return [
        Cell(at, answer, stage, ending, prefix)
        for at, (stage, endings) in table.items()
        for answer, ending in zip(ANSWERS, endings, strict=True)
        if ending is not None
    ]


def settings(**more: str) -> dict[str, str]:
    return {"MAIL_TIMEOUT": str(TIMEOUT), "MAIL_DATA_TIMEOUT": str(DATA_TIMEOUT)} | more


async def check_end(scenario: MailScenario, found: list[Cell]) -> None:
    """Once the server is as it should be and the waits are over, every row ends as it must."""
    scenario.server.clear()
    names = [cell.name for cell in found]
    await scenario.bring_forward(*names)
    await scenario.all_ended(names)
    states = await scenario.states(*names)
    assert {name: row[:2] for name, row in states.items()} == {cell.name: cell.ending.end for cell in found}
    taken = scenario.taken()
    assert {cell.name: taken[cell.name] for cell in found} == {cell.name: cell.ending.taken for cell in found}
    ids = {(mail.recipients, mail.message_id) for mail in scenario.server.accepted}
    assert len(ids) == len({mail.recipients for mail in scenario.server.accepted}), "a resend has another Message-ID"
    resent = await scenario.installation.rows(
        "SELECT u.name FROM taskbell.delivery AS d JOIN users AS u ON u.id = d.user_id"
        " WHERE d.resends > 0 AND u.name = ANY($1)",
        names,
    )
    unknown = {cell.name for cell in found if cell.ending.after[0] == "unknown"}
    assert {row["name"] for row in resent} == unknown


async def test_a_session_that_does_not_come_about_costs_no_try_and_a_refused_sender_one(
    database_url: str, vhost: Vhost, tmp_path: Path, plan: Plan, seed: int, figures: Figures
) -> None:
    certificate = Certificate.make(tmp_path)
    every = cells(OPENING)
    chosen = plan.pick(quick=random.Random(seed).sample(every, 4), full=every)
    secrets = {"MAIL_USERNAME": "taskbell", "MAIL_PASSWORD": "secret", "MAIL_USE_TLS": "true"}
    async with mail_scenario(
        database_url, vhost, tls="starttls", certificate=certificate, users={"taskbell": "secret"}
    ) as scenario:
        await scenario.people(*(cell.name for cell in chosen), *(f"next-{cell.name}" for cell in chosen))
        await scenario.start(**settings(MAIL_CA_FILE=str(certificate.certificate), MAIL_POOL_SIZE="1", **secrets))
        for cell in chosen:
            await scenario.drop_sessions()
            rule = scenario.server.rule(cell.at, **ANSWERS[cell.answer][0])
            await scenario.mail(cell.name)
            await scenario.until_rows_are({cell.name: cell.after})
            scenario.server.rules.remove(rule)
            await scenario.postpone(cell.name)
            # And the next mail goes out: one fault is no reason to pause.
            await scenario.mail(f"next-{cell.name}")
            await scenario.until_rows_are({f"next-{cell.name}": SENT})
        await check_end(scenario, chosen)
    figures.note("every reply", "cells of the table before RCPT", len(chosen))


async def test_trouble_with_one_mail_ends_as_the_table_says_and_its_neighbours_are_sent(
    database_url: str, vhost: Vhost, plan: Plan, seed: int, figures: Figures
) -> None:
    rng = random.Random(seed)
    async with mail_scenario(database_url, vhost) as scenario:
        await scenario.start(**settings())
        for pipelining in plan.pick(quick=[rng.random() < 0.5], full=[True, False]):
            scenario.server.pipelining = pipelining
            await scenario.drop_sessions()
            await hand_over(scenario, cells(HANDING_OVER, "p-" if pipelining else ""), rng)
    figures.note("every reply", "cells of the table from RCPT on", len(cells(HANDING_OVER)))


async def hand_over(scenario: MailScenario, found: list[Cell], rng: random.Random) -> None:
    """All the cells in one batch, among as many mails without trouble."""
    neighbours = [f"next-{cell.name}" for cell in found]
    names = [*(cell.name for cell in found), *neighbours]
    rng.shuffle(names)
    await scenario.people(*names)
    for cell in found:
        recipient, answer = address_of(cell.name), scripted(cell.at, cell.answer)[0]
        scenario.server.rule(cell.at, recipient=recipient, **answer)
        if cell.at == "BODY" and "reply" in answer:
            # Said before the message was over; then the server leaves.
            scenario.server.rule("DOT", recipient=recipient, drop=True)
    before = await scenario.installation.value("SELECT now()")
    await scenario.mail(*names)
    await scenario.until_rows_are({cell.name: cell.after for cell in found} | dict.fromkeys(neighbours, SENT))
    # "retry: after 1 … min", and so the one resend.
    otherwise = await scenario.installation.rows(
        "SELECT recipient, next_attempt_at FROM taskbell.delivery WHERE state IN ('retry', 'unknown')"
        " AND next_attempt_at - interval '1 minute' NOT BETWEEN $1 AND now()",
        before,
    )
    assert otherwise == []
    await check_end(scenario, found)


SUPPRESSING = ("5.1.1", "5.1.2", "5.1.3", "5.1.6", "5.1.10")
OTHERS = ("5.1.0", "5.1.4", "5.2.1", "5.2.2", "5.2.4", "5.6.1")


@pytest_asyncio.fixture(scope="module")
async def scenario(module_database_url: str, module_vhost: Vhost) -> AsyncIterator[MailScenario]:
    """A scenario with a notifier that waits for the reply to a message as long as it does by default."""
    async with mail_scenario(module_database_url, module_vhost) as scenario:
        await scenario.start(MAIL_TIMEOUT=str(TIMEOUT))
        yield scenario


async def test_a_refused_recipient_fails_alone_and_only_codes_that_say_never_suppress_the_address(
    scenario: MailScenario,
) -> None:
    refused = {f"code-{code.replace('.', '-')}": code for code in (*SUPPRESSING, *OTHERS)}
    neighbours = [f"neighbour-{number}" for number in range(20)]
    await scenario.people(*refused, *neighbours)
    replies = {name: " ".join(filter(None, ("550", code, "no"))) for name, code in refused.items()}
    for name, reply in replies.items():
        scenario.server.rule("RCPT", recipient=address_of(name), reply=reply)
    await scenario.mail(*refused, *neighbours)
    failed: dict[str, tuple[str, int, str]] = {name: ("failed", 1, f"RCPT: {reply}") for name, reply in replies.items()}
    await scenario.until_rows_are(failed | dict.fromkeys(neighbours, SENT))
    assert scenario.taken() == dict.fromkeys(neighbours, 1)
    suppressed = await scenario.installation.rows("SELECT address FROM taskbell.suppression")
    assert {row["address"] for row in suppressed} == {
        address_of(name) for name, code in refused.items() if code in SUPPRESSING
    }

    # Once suppressed it is not asked about again, whoever insists.
    scenario.server.clear()
    await scenario.installation.rows("DELETE FROM taskbell.delivery")
    await scenario.mail(*refused, force=True)
    await scenario.all_ended(list(refused))
    states = {name: row[0] for name, row in (await scenario.states(*refused)).items()}
    assert states == {name: "suppressed" if code in SUPPRESSING else "sent" for name, code in refused.items()}


@pytest.mark.parametrize("reply", ["552 too large", "554 5.3.4 too large"])
async def test_a_mail_too_large_at_mail_fails_alone_and_pauses_nothing(scenario: MailScenario, reply: str) -> None:
    large, ordinary = f"large-{reply[:3]}", f"ordinary-{reply[:3]}"
    await scenario.people(large, ordinary)
    scenario.server.rule("MAIL", reply=reply, times=1)
    await scenario.mail(large)
    await scenario.until_rows_are({large: ("failed", 1, f"MAIL: {reply}")})
    await scenario.mail(ordinary)
    await scenario.until_rows_are({ordinary: SENT})


async def test_a_server_that_takes_its_time_over_a_message_is_waited_for(scenario: MailScenario) -> None:
    await scenario.people("slow")
    # Longer than MAIL_TIMEOUT and in time for MAIL_DATA_TIMEOUT, as 60 s are to the defaults 30 and 600.
    scenario.server.rule("DOT", delay=1.5 * TIMEOUT, recipient=address_of("slow"))
    await scenario.mail("slow")
    await scenario.until_rows_are({"slow": SENT})
    assert scenario.taken()["slow"] == 1
