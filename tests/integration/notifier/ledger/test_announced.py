"""Mails that an event asks for: kept of the event is what its mails say, and a package's statement sees it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.notifier.ledger.notifier_parts import NotifierParts
from tests.integration.notifier.ledger.support import NotifierTables, received
from tests.support.packages import Packages, packages_in
from tests.support.scripted_smtp import ScriptedSmtp

from taskbell.database import Database
from taskbell.errors import Never
from taskbell_notifier.kinds.table import Kinds, installed_kinds
from taskbell_notifier.mail.links import Links
from taskbell_notifier.mail.render import Renderer
from taskbell_notifier.planning import mailings

SOURCE = '''
from datetime import timedelta
from taskbell.extend import *

class Commented(UserEvent):
    by: Text
    words: Text = ""

WHAT = Statement("""
    SELECT e.user_id, e.key, t.title, e.event ->> 'by' AS by, e.event ->> 'words' AS words
    FROM unnest(:users, :keys, :events) AS e (user_id, key, event)
    JOIN {app}.tasks AS t ON t.id = CAST(e.event ->> 'task_id' AS bigint)
    WHERE t.status <> 'done'
""")

def compose(context, rows):
    (row,) = rows
    return MailText(f"{row['by']} on {row['title']}", "A comment", row["words"])

extension = Extension(
    messages=(Message("task.commented", "event", Commented, "anyone", "a comment", "notifier", by_anyone=True),),
    kinds=(
        Kind(
            "comment", Commented, NamedUser(), WHAT, Period.KEY, timedelta(hours=1),
            lambda _: KindWords("Comments", "You follow it."), compose, lambda now: (), None, "acme_comment_mail",
        ),
    ),
)
'''
FILES = {f"acme_comment_mail/templates/comment.{form}.j2": "{{ frame.lead }}\n" for form in ("html", "txt")}


@pytest.fixture
def kinds(tmp_path: Path) -> Iterator[Kinds]:
    with packages_in(tmp_path / "site") as packages:
        _install(packages)
        yield installed_kinds()
    installed_kinds.cache_clear()


def _install(packages: Packages) -> None:
    packages.install("acme-comment", SOURCE, files=FILES)
    installed_kinds.cache_clear()


async def test_a_statement_sees_what_each_event_said(
    tables: NotifierTables, database: Database, kinds: Kinds, server: ScriptedSmtp
) -> None:
    parts = NotifierParts(database, Renderer(kinds, Links()), kinds=kinds)
    commented = kinds["comment"].event
    for user in (1, 2):
        await tables.user(user)
    first = await tables.task(None, due=None, title="Roof")
    second = await tables.task(None, due=None, title="Cellar")
    done = await tables.task(None, due=None, status="done")
    for message_id, (user, task, key, by) in enumerate(
        [(1, first, "a", "Ada"), (1, second, "b", "Grace"), (2, first, "a", "Linus"), (2, done, "c", "Ada")]
    ):
        event = commented(user_id=user, task_id=task, key=key, by=by, words=f"Look, {key}")
        await parts.mailings.announce([received(event, f"m{message_id}")])
    parts.add_sender(server)
    await parts.send()
    said = {
        (mail.recipients[0], line.removeprefix("Subject: "))
        for mail in server.accepted
        for line in mail.raw.decode().split("\r\n")
        if line.startswith("Subject: ")
    }
    assert said == {
        ("user1@example.org", "Ada on Roof"),
        ("user1@example.org", "Grace on Cellar"),
        ("user2@example.org", "Linus on Roof"),
    }
    assert any("Look, b" in mail.raw.decode() for mail in server.accepted)
    rows = await tables.rows("SELECT reason FROM taskbell.delivery WHERE state = 'skipped'")
    assert rows == [{"reason": "nothing to say"}]
    await parts.close()


async def test_an_event_that_says_too_much_can_never_take_effect(kinds: Kinds, monkeypatch: pytest.MonkeyPatch) -> None:
    commented = kinds["comment"].event
    event = commented(user_id=1, task_id=1, key="a", by="Ada", words="x" * 500)
    assert mailings.props_of(event) == {"task_id": 1, "key": "a", "event": {"by": "Ada", "words": "x" * 500}}
    monkeypatch.setattr(mailings, "LARGEST_EVENT", 500)
    with pytest.raises(Never, match=r"^by, words take 526 bytes; what an event of a kind of mail adds may take 500$"):
        mailings.props_of(event)
