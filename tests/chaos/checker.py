"""Compares three things: what should have been, what the ledger says, and what the mail server took."""

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from tests.chaos.sink import Sink
from tests.chaos.town import Town

LEDGER = """
    SELECT d.id, d.mail_message_id, d.state, d.reason, d.kind, d.recipient, d.period, d.run, d.resends, u.timezone
    FROM taskbell.delivery AS d
    LEFT JOIN users AS u ON u.id = d.user_id
"""


@dataclass(frozen=True)
class Verdict:
    """What the comparison found; empty where nothing is wrong."""

    states: Counter[str]
    """Rows of the ledger by state."""
    failures: Counter[str]
    """Why rows failed."""
    missing: list[str]
    """Who should have had a mail of a kind, and has no row."""
    again: list[str]
    """Who has a row of a kind for a day on which there was none to be had, or two for one day."""
    lost: list[str]
    """Message-IDs of sent rows that the mail server never took."""
    strays: list[str]
    """Message-IDs that it took, and no row carries; a row has only one."""
    doubled: dict[str, int]
    """Message-IDs that it took more than once, and how often."""
    unexplained: list[str]
    """Those of them that it took more often than their row says it was sent."""
    twice_resent: list[str]
    """Message-IDs of rows that were sent again more than once."""
    resent: frozenset[int]
    """Ids of the rows that were sent again."""

    def check(self) -> None:
        """Fails where anything was lost, or doubled outside the data window."""
        assert self.missing == []
        assert self.again == []
        assert self.lost == []
        assert self.strays == []
        assert self.unexplained == []
        assert self.twice_resent == []


async def compare(town: Town, sink: Sink, *, people: int, kinds: tuple[str, ...]) -> Verdict:
    """The verdict on a run in which each of so many people should have had one mail of each kind and day."""
    rows = await town.rows(LEDGER)
    taken = sink.taken()
    mine = {row["mail_message_id"]: row for row in rows if row["mail_message_id"]}
    theirs = [row for row in rows if row["kind"] in kinds]
    had = Counter((row["kind"], row["recipient"]) for row in theirs)
    due = [row for row in theirs if row["run"] == 0 and row["period"] in _days(row, town.began)]
    days = Counter((row["kind"], row["recipient"]) for row in due)
    wanted = [(kind, f"user:{number}") for kind in kinds for number in range(1, people + 1)]
    doubled = {id_: count for id_, count in taken.items() if count > 1}
    given = Counter(id_ for ids in sink.by_recipient().values() for id_ in ids)
    assert set(given.values()) <= {1}, "a Message-ID went to two addresses"
    return Verdict(
        states=Counter(row["state"] for row in rows),
        failures=Counter(row["reason"] for row in rows if row["state"] == "failed"),
        missing=[f"{kind} of {recipient}" for kind, recipient in wanted if (kind, recipient) not in had],
        again=[f"{kind} of {recipient}" for kind, recipient in had if had[kind, recipient] != days[kind, recipient]],
        lost=[id_ for id_, row in mine.items() if row["state"] == "sent" and not taken[id_]],
        strays=[id_ for id_ in taken if id_ not in mine],
        doubled=doubled,
        unexplained=[id_ for id_, count in doubled.items() if id_ in mine and count > 1 + mine[id_]["resends"]],
        twice_resent=[id_ for id_, row in mine.items() if row["resends"] > 1],
        resent=frozenset(row["id"] for row in rows if row["resends"]),
    )


def _days(row: dict[str, Any], since: datetime) -> set[str]:
    """The dates that it was at this person's since then, as the ledger writes them."""
    zone = ZoneInfo(row["timezone"])
    return {at.astimezone(zone).date().isoformat() for at in (since, datetime.now(UTC))}
