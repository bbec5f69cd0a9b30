"""A package whose kind of mail, the digest, says by statements who gets it and what; tests change its source."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.integration.notifier.ledger.notifier_parts import NotifierParts
from tests.integration.notifier.ledger.support import DAY, NotifierTables
from tests.support.packages import Packages, packages_in

from taskbell_notifier.kinds.table import installed_kinds
from taskbell_notifier.mail.links import Links
from taskbell_notifier.mail.render import Renderer

SOURCE = '''
from datetime import timedelta
from taskbell.extend import *

class DigestDue(MailingDue):
    team: Text = "red"

WHO = Statement("""
    SELECT m.user_id FROM {app}.members AS m
    WHERE m.team = :event ->> 'team' AND m.since < :at::timestamptz - interval '1 day'
        AND m.user_id > :cursor AND m.user_id <= :last -- so that it reads no more than a page
""")
WHAT = Statement("""
    SELECT m.user_id, m.team, 10 / m.score AS share FROM {app}.members AS m
    WHERE m.user_id = ANY(:users) AND m.user_id IN (SELECT unnest(:users)) AND m.since < :at
        AND m.team = :event ->> 'team' AND '\\\\:no' <> 'parameter';
""")

def words(_):
    return KindWords(_("Digests"), _("You are in a team."), _("Unsubscribe from digests"), _("No more digests."))

def compose(context, rows):
    if context.recipient.user_id == 13:
        raise LookupError("nobody has taught me about 13")
    row = rows[0]
    return MailText(f"Team {row['team']}", "Digest", context.plural("%(n)s point", "%(n)s points", row["share"]))

KIND = Kind(
    "digest", DigestDue, WHO, WHAT, Period.DAY, timedelta(hours=12), words, compose,
    lambda now: ({"team": "blue", "share": 1},), "digest", "acme_digest_mail",
)
extension = Extension(
    messages=(Message("digest.due", "event", DigestDue, "anyone", "digests", "notifier", by_anyone=True),),
    kinds=(KIND,),
)
'''
FILES = {
    "acme_digest_mail/templates/digest.html.j2": '<p class="lead">{{ frame.lead }}</p>\n',
    "acme_digest_mail/templates/digest.txt.j2": "{{ frame.lead }}\n",
}
DENIED = """
    CREATE FUNCTION public.denied() RETURNS boolean LANGUAGE plpgsql AS $$
    BEGIN RAISE insufficient_privilege USING MESSAGE = 'permission denied for table members'; END $$
"""


class Digests:
    """The package, with what a test changes in its source, and a notifier's parts that know it."""

    def __init__(self, packages: Packages, tables: NotifierTables) -> None:
        self._packages = packages
        self._tables = tables

    def install(self, *changes: tuple[str, str]) -> NotifierParts:
        source = SOURCE
        for old, new in changes:
            assert old in source
            source = source.replace(old, new)
        self._packages.install("acme-digest", source, files=FILES)
        installed_kinds.cache_clear()
        kinds = installed_kinds()
        self.due = kinds["digest"].event
        self.parts = NotifierParts(self._tables.database, Renderer(kinds, Links()), kinds=kinds)
        return self.parts

    async def members(self, *numbers: int, team: str = "red", **columns: Any) -> None:
        for number in numbers:
            await self._tables.user(number)
            await self._tables.execute(
                "INSERT INTO public.members (user_id, team, since, score) VALUES (:user, :team, :since, :score)",
                **{"user": number, "team": team, "since": self._tables.now - 2 * DAY, "score": 5} | columns,
            )


@asynccontextmanager
async def digests_in(folder: Path, tables: NotifierTables) -> AsyncIterator[Digests]:
    """The package's place, and its table; a test installs it."""
    await tables.execute("CREATE TABLE public.members (user_id int, team text, since timestamptz, score int)")
    with packages_in(folder) as packages:
        digests = Digests(packages, tables)
        yield digests
        await digests.parts.close()
    installed_kinds.cache_clear()


async def are(tables: NotifierTables, states: Mapping[int, str]) -> bool:
    """For `eventually`: the mails to these users, by their ids, are in these states, and there are no others."""
    assert await tables.states() == {f"user:{user}": state for user, state in states.items()}
    return True
