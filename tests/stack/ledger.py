"""A mailing of many, and the comparison of what the ledger says with what the mail server took."""

import json
import time
from collections import Counter
from dataclasses import dataclass

from tests.stack.compose import Compose

MAILS = 5000
LIMIT = 240.0  # seconds for a mailing to come to its end, faults included


@dataclass(frozen=True)
class Outcome:
    """What became of a mailing."""

    states: dict[str, int]
    lost: list[str]
    """Message-IDs of the ledger's sent rows that the mail server never took."""
    doubled: dict[str, int]
    """Message-IDs that it took more than once."""
    unexplained: list[str]
    """Those of them whose row does not say that it was sent again."""
    resends: int


def load_people(stack: Compose) -> None:
    """So many people, each with one overdue task."""
    stack.sql(f"""
        INSERT INTO users (id, name, email, is_active)
        SELECT n, 'Person ' || n, 'person' || n || '@example.org', true FROM generate_series(1, {MAILS}) AS n;
        INSERT INTO tasks (id, title, status, priority, due_date, assignee_id)
        SELECT n, 'Task ' || n, 'pending', 'high', now() - interval '2 days', n FROM generate_series(1, {MAILS}) AS n;
    """)


def begin(stack: Compose, message_id: str) -> None:
    """Publishes an overdue mailing to everybody, a new run of today's period."""
    stack.taskbell("publish", "overdue.due", '{"force": true}', "--message-id", message_id)


def sent(stack: Compose, message_id: str) -> int:
    """How many of its mails have been sent so far; as the mail server sees it would need the whole log."""
    ((number,),) = stack.sql(
        "SELECT count(*) FROM taskbell.delivery d JOIN taskbell.mailing m ON m.id = d.mailing_id"
        f" WHERE m.message_id = '{message_id}' AND d.state = 'sent'"
    )
    return int(number)


def wait_until_sent(stack: Compose, message_id: str, number: int) -> None:
    """Until at least so many have been sent: the mailing is under way."""
    deadline = time.monotonic() + LIMIT
    while sent(stack, message_id) < number:
        assert time.monotonic() < deadline, f"no {number} mails in time\n{stack.said()}"


def wait_completed(stack: Compose, message_id: str) -> None:
    """Until its last mail has reached its end."""
    deadline = time.monotonic() + LIMIT
    question = f"SELECT 1 FROM taskbell.mailing WHERE message_id = '{message_id}' AND completed_at IS NOT NULL"
    while not stack.sql(question):
        assert time.monotonic() < deadline, f"{message_id} was not completed in time\n{stack.said()}"


def outcome(stack: Compose, message_id: str) -> Outcome:
    """The ledger of a completed mailing beside the mail server's log."""
    rows = stack.sql(
        "SELECT d.mail_message_id, d.state, d.resends FROM taskbell.delivery d"
        f" JOIN taskbell.mailing m ON m.id = d.mailing_id WHERE m.message_id = '{message_id}'"
    )
    log = map(json.loads, stack("exec", "-T", "sink", "cat", "/tmp/accepted").splitlines())
    taken = Counter(line["message_id"] for line in log if line["event"] == "accepted")
    mine = {row[0]: (row[1], int(row[2])) for row in rows}
    doubled = {id_: count for id_, count in taken.items() if count > 1 and id_ in mine}
    return Outcome(
        states=dict(Counter(state for state, _ in mine.values())),
        lost=[id_ for id_, (state, _) in mine.items() if state == "sent" and not taken[id_]],
        doubled=doubled,
        unexplained=[id_ for id_, count in doubled.items() if count > 1 + mine[id_][1]],
        resends=sum(resends for _, resends in mine.values()),
    )
