"""What a status update means for its task, and how sets are split."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskbell.contracts import TaskStatus, UpdateTaskStatus
from taskbell_maintenance.domain import Decision, Rejected, StatusChange, Unchanged, decide, rounds, settled


def _wish(status: TaskStatus, expected: TaskStatus | None = None) -> UpdateTaskStatus:
    return UpdateTaskStatus(task_id=7, new_status=status, expected_status=expected)


@pytest.mark.parametrize(
    ("found", "new", "expected", "decision"),
    [
        ({}, TaskStatus.DONE, None, Rejected(7, "task 7 does not exist")),
        ({8: "pending"}, TaskStatus.DONE, None, Rejected(7, "task 7 does not exist")),
        ({7: "pending"}, TaskStatus.DONE, None, StatusChange(7, "pending", "done", "set")),
        ({7: "done"}, TaskStatus.DONE, None, Unchanged(7, "done")),
        ({7: "done"}, TaskStatus.DONE, TaskStatus.PENDING, Unchanged(7, "done")),
        ({7: "done"}, TaskStatus.CANCELLED, None, StatusChange(7, "done", "cancelled", "clear")),
        ({7: "pending"}, TaskStatus.IN_PROGRESS, None, StatusChange(7, "pending", "in_progress", "keep")),
        ({7: "DONE"}, TaskStatus.PENDING, None, StatusChange(7, "DONE", "pending", "keep")),
        ({7: None}, TaskStatus.DONE, None, StatusChange(7, None, "done", "set")),
        (
            {7: "pending"},
            TaskStatus.DONE,
            TaskStatus.IN_PROGRESS,
            Rejected(7, "task 7 has status 'pending', not 'in_progress'", "pending"),
        ),
        (
            {7: None},
            TaskStatus.DONE,
            TaskStatus.PENDING,
            Rejected(7, "task 7 has status None, not 'pending'", None),
        ),
    ],
)
def test_a_decision(
    found: Mapping[int, str | None], new: TaskStatus, expected: TaskStatus | None, decision: Decision
) -> None:
    assert decide(_wish(new, expected), found) == decision


CHANGE = StatusChange(7, "pending", "done", "set")


@pytest.mark.parametrize(
    ("written", "reasons", "decision"),
    [
        ({7: "done"}, {}, CHANGE),
        ({7: "review"}, {}, StatusChange(7, "pending", "review", "set")),
        ({}, {7: "no"}, Rejected(7, "the table of tasks refused it: no", "pending")),
        ({}, {}, Rejected(7, "a trigger or a rule of the table of tasks discarded the change", "pending")),
        ({7: "pending"}, {}, Rejected(7, "a trigger or a rule of the table of tasks discarded the change", "pending")),
        ({7: None}, {}, Rejected(7, "a trigger or a rule of the table of tasks discarded the change", "pending")),
    ],
)
def test_a_change_is_what_the_table_made_of_it(
    written: Mapping[int, str | None], reasons: Mapping[int, str], decision: Decision
) -> None:
    assert settled(CHANGE, written, reasons) == decision


def test_what_was_no_change_stays_what_it_was() -> None:
    for decision in (Unchanged(7, "done"), Rejected(7, "task 7 does not exist")):
        assert settled(decision, {7: "pending"}, {7: "no"}) == decision


@given(st.lists(st.integers(0, 5)))
def test_rounds_hold_everything_once_in_each_keys_order(keys: list[int]) -> None:
    items = list(enumerate(keys))
    split = rounds(items, key=lambda item: item[1])
    for some in split:
        assert some
        assert len({key for _, key in some}) == len(some)
    for key in set(keys):
        assert [item for some in split for item in some if item[1] == key] == [it for it in items if it[1] == key]
    assert sum(map(len, split)) == len(items)


@given(st.lists(st.integers(), unique=True, min_size=1))
def test_different_keys_are_one_round(keys: list[int]) -> None:
    assert rounds(keys, key=lambda key: key) == [keys]
