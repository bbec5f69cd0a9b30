"""Compares what should have been sent, what the ledger says, and what the mail server accepted."""

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from tests.chaos.support.app_tables import AppTables
from tests.chaos.support.sink import Sink

LEDGER = """
    SELECT d.id, d.mail_message_id, d.state, d.reason, d.kind, d.recipient, d.period, d.run, d.resends, u.timezone
    FROM taskbell.delivery AS d
    LEFT JOIN users AS u ON u.id = d.user_id
"""


@dataclass(frozen=True)
class Comparison:
    """What the comparison found. A field that lists faults is empty if there are none."""

    states: Counter[str]
    """Rows of the ledger by state."""
    failures: Counter[str]
    """Why rows failed."""
    missing: list[str]
    """People who should have had a mail of a kind, and have no row."""
    again: list[str]
    """People with a row for a day on which that kind was not due, or with two rows for one day."""
    lost: list[str]
    """Message-IDs of rows marked sent that the mail server never accepted."""
    strays: list[str]
    """Message-IDs that it accepted and that no row carries; a row has only one."""
    doubled: dict[str, int]
    """Message-IDs that it accepted more than once, and how often."""
    unexplained: list[str]
    """Those of them that it accepted more often than their row says they were sent."""
    twice_resent: list[str]
    """Message-IDs of rows that were sent again more than once."""
    resent: frozenset[int]
    """Ids of the rows that were sent again."""

    def check(self) -> None:
        """Fails if a mail was lost, or sent twice outside the data window."""
        assert self.missing == []
        assert self.again == []
        assert self.lost == []
        assert self.strays == []
        assert self.unexplained == []
        assert self.twice_resent == []


async def compare(tables: AppTables, sink: Sink, *, people: int, kinds: tuple[str, ...]) -> Comparison:
    """Compares a run in which each of `people` should have had one mail of each kind and day."""
    rows = await tables.rows(LEDGER)
    taken = sink.taken()
    mine = {row["mail_message_id"]: row for row in rows if row["mail_message_id"]}
    theirs = [row for row in rows if row["kind"] in kinds]
    had = Counter((row["kind"], row["recipient"]) for row in theirs)
    due = [row for row in theirs if row["run"] == 0 and row["period"] in _days(row, tables.began)]
    days = Counter((row["kind"], row["recipient"]) for row in due)
    wanted = [(kind, f"user:{number}") for kind in kinds for number in range(1, people + 1)]
    doubled = {id_: count for id_, count in taken.items() if count > 1}
    given = Counter(id_ for ids in sink.by_recipient().values() for id_ in ids)
    assert set(given.values()) <= {1}, "a Message-ID went to two addresses"
    return Comparison(
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
    """The local dates in this person's zone from `since` until now, as the ledger writes them."""
    zone = ZoneInfo(row["timezone"])
    return {at.astimezone(zone).date().isoformat() for at in (since, datetime.now(UTC))}
