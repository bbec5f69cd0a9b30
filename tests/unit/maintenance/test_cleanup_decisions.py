"""How far a cleanup may go, how it counts, and how large its pages are."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskbell_maintenance.domain import Page, Progress, Survey, cutoff, next_size, refusal


def test_days_are_of_24_hours() -> None:
    at = datetime(2026, 3, 30, 2, 0, tzinfo=UTC)  # the clocks of Europe changed the day before
    assert cutoff(at, 1) == datetime(2026, 3, 29, 2, 0, tzinfo=UTC)
    assert cutoff(at, 0) == at


@pytest.mark.parametrize(
    ("every", "old", "share", "allowed"),
    [
        (100, 20, "0.20", True),
        (100, 21, "0.20", False),
        (99, 99, "0.20", True),
        (0, 0, "0.20", True),
        (30_000, 3_000, "0.1", True),  # 0.1 * 30,000 is more than 3,000 in binary fractions, 0.3 * 10 less than 3
        (1_000, 300, "0.3", True),
        (1_000, 301, "0.3", False),
        (100, 0, "0", True),
        (100, 1, "0", False),
        (100, 100, "1", True),
    ],
)
def test_the_guard_counts_exactly(every: int, old: int, share: str, allowed: bool) -> None:
    assert (refusal(Survey(every, old), Decimal(share)) is None) == allowed


def test_the_guard_says_what_to_do() -> None:
    assert refusal(Survey(1_000, 500), Decimal("0.20")) == (
        "it would take 500 of 1000 tasks, more than the share of 0.20 that CLEANUP_MAX_SHARE allows; "
        "if that is intended, send the command again with force"
    )


def test_progress_adds_up_page_by_page_and_names_the_first_held() -> None:
    progress = Progress()
    for number in range(5):
        held = {number * 100 + task: f"reason {number % 2}" for task in range(7)}
        progress = progress.after(Page(cursor=number * 100 + 99, removed=10, held=held, last=False))
    assert (progress.cursor, progress.tasks, progress.held) == (499, 50, 35)
    assert list(progress.held_ids) == [*range(7), *range(100, 107), *range(200, 206)]
    assert list(progress.held_reasons) == ["reason 0", "reason 1"]


def test_at_most_five_reasons_are_told() -> None:
    progress = Progress().after(Page(9, 0, {task: f"reason {task}" for task in range(9)}, last=True))
    assert list(progress.held_reasons) == [f"reason {task}" for task in range(5)]
    assert progress.held == 9


def test_a_slow_page_halves_the_next_one_and_a_quick_one_doubles_it_again() -> None:
    assert next_size(1_000, 0.2) == 500
    assert next_size(500, 0.08) == 500
    assert next_size(500, 0.01) == 1_000
    assert next_size(1_000, 0.01) == 1_000
    assert next_size(3, 9.0) == 1
    assert next_size(1, 9.0) == 1


@given(st.lists(st.floats(min_value=0, max_value=100)))
def test_pages_stay_within_their_bounds(seconds: list[float]) -> None:
    size = 1_000
    for one in seconds:
        size = next_size(size, one)
        assert 1 <= size <= 1_000
