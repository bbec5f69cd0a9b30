"""How a command ended: as its handler says it, as it is stored, and as the reply tells it."""

import json
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from taskbell.contracts import CommandOutcome
from taskbell.outcomes import Outcome


@pytest.mark.parametrize(
    ("outcome", "told"),
    [
        (Outcome.done(task_id=1), {"message_id": "m", "state": "done", "result": {"task_id": 1}}),
        (Outcome.unchanged(), {"message_id": "m", "state": "unchanged", "result": {}}),
        (Outcome.rejected("no such task"), {"message_id": "m", "state": "rejected", "reason": "no such task"}),
        (Outcome("failed", reason="gone"), {"message_id": "m", "state": "failed", "reason": "gone"}),
    ],
)
def test_a_reply_tells_the_outcome_and_leaves_out_what_there_is_not(outcome: Outcome, told: dict[str, object]) -> None:
    assert json.loads(outcome.as_reply("m").to_bytes()) == told


def test_what_json_does_not_have_is_told_as_it_is_stored() -> None:
    outcome = Outcome.done(
        at=datetime(2026, 11, 20, 7, tzinfo=UTC), day=date(2026, 11, 20), share=Decimal("0.20"), name="Müller"
    )
    stored = outcome.result_as_json()
    assert stored is not None
    assert json.loads(stored) == {
        "at": "2026-11-20 07:00:00+00:00",
        "day": "2026-11-20",
        "share": "0.20",
        "name": "Müller",
    }
    reply = CommandOutcome.parse(outcome.as_reply("m").to_bytes())
    assert reply.result == json.loads(stored)


def test_nothing_is_stored_if_there_is_no_result() -> None:
    assert Outcome("failed", reason="gone").result_as_json() is None
