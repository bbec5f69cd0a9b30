"""`taskbell mail` about a kind whose statements say who gets it and what."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio
from tests.integration.notifier.ledger.digests import DENIED, Digests, digests_in
from tests.integration.notifier.ledger.support import NotifierTables
from typer.testing import CliRunner

from taskbell_notifier.cli import app

Mail = Callable[..., Awaitable[str]]


@pytest_asyncio.fixture
async def digests(tables: NotifierTables, tmp_path: Path) -> AsyncIterator[Digests]:
    async with digests_in(tmp_path / "site", tables) as digests:
        yield digests


@pytest.fixture
def mail(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Mail:
    """Runs `taskbell mail`; the answer is what it prints, or what it says is wrong."""
    monkeypatch.setenv("DATABASE_URL", database_url)

    async def call(*arguments: str) -> str:
        result = await asyncio.to_thread(CliRunner().invoke, app, list(arguments))  # it has an event loop of its own
        return str(result.exception) if result.exception else result.stdout

    return call


async def test_a_preview_for_a_user_is_what_their_mail_would_say(digests: Digests, mail: Mail) -> None:
    digests.install()
    await digests.members(1)
    await digests.members(2, team="blue")
    assert (await mail("preview", "digest")).startswith("Subject: Team blue\n")
    assert (await mail("preview", "digest", "--user", "1")).startswith("Subject: Team red\n")
    of_the_blue = ("preview", "digest", "--event", '{"team": "blue"}')
    assert (await mail(*of_the_blue, "--user", "2")).startswith("Subject: Team blue\n")
    assert await mail("preview", "digest", "--user", "2") == (
        "user 2 would get no digest mail now, because it would be empty"
    )
    assert await mail(*of_the_blue) == "--event needs --user: a sample is the same for every event"
    said = await mail("preview", "digest", "--user", "2", "--event", '{"teams": "blue"}')
    assert said == "digest.due has no field 'teams'; did you mean 'team'? (--event gives the body as JSON)"
    said = await mail("preview", "digest", "--user", "2", "--event", '{"team": ' * 3_000 + "1" + "}" * 3_000)
    assert said.startswith("digest.due: Invalid JSON: recursion limit exceeded")


async def test_a_preview_that_is_denied_says_what_to_do(tables: NotifierTables, digests: Digests, mail: Mail) -> None:
    await tables.execute(DENIED)
    digests.install(("AND m.since < :at\n", "AND {app}.denied()\n"))
    await digests.members(1)
    assert await mail("preview", "digest", "--user", "1") == (
        "PostgreSQL: permission denied for table members; `taskbell setup --grant acme-digest` grants what package "
        "acme-digest asks for"
    )


async def test_why_says_whether_a_statement_would_find_somebody(digests: Digests, mail: Mail) -> None:
    digests.install(("m.team = :event ->> 'team' AND m.since <", "m.team = 'red' AND m.since <"))
    await digests.members(1)
    await digests.members(2, team="blue")
    assert "A digest mailing would find them now." in await mail("why", "--user", "1")
    assert "A digest mailing would not find them now." in await mail("why", "--user", "2")


async def test_why_says_that_it_depends_on_the_event_whom_a_statement_would_find(digests: Digests, mail: Mail) -> None:
    digests.install()
    await digests.members(1)
    assert "Who gets digest mails depends on the event" in await mail("why", "--user", "1")
