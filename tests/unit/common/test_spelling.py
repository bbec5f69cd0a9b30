"""Hints for mistyped words."""

import pytest

from taskbell.spelling import did_you_mean, shortened

KNOWN = ("reminder.due", "overdue.due", "maintenance.update_task_status", "Europe/Berlin", "America/New_York", "UTC")


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("remainder.due", "reminder.due"),
        ("REMINDER.DUE", "reminder.due"),
        ("update_task_status", "maintenance.update_task_status"),
        ("berlin", "Europe/Berlin"),
        ("Europe/Berln", "Europe/Berlin"),
        ("New York", "America/New_York"),
        ("utc", "UTC"),
    ],
)
def test_a_near_word_is_suggested_as_it_is_written(word: str, meant: str) -> None:
    assert did_you_mean(word, KNOWN) == f"; did you mean {meant!r}?"


def test_nothing_is_suggested_if_no_word_is_near() -> None:
    assert did_you_mean("xyzzy", KNOWN) == ""
    assert did_you_mean("", KNOWN) == ""
    assert did_you_mean("anything", []) == ""


def test_the_last_part_of_a_word_is_nearer_than_another_that_looks_like_it() -> None:
    assert did_you_mean("status", ["statue", "commands.status"]) == "; did you mean 'commands.status'?"


def test_the_suggestion_does_not_depend_on_the_order_of_known_words() -> None:
    assert did_you_mean("task", ["b.task", "a.task"]) == "; did you mean 'a.task'?"
    assert did_you_mean("task", ["a.task", "b.task"]) == "; did you mean 'a.task'?"


def test_a_long_text_is_cut_for_a_message() -> None:
    assert shortened("x" * 60) == repr("x" * 60)
    assert shortened("x" * 61) == repr("x" * 57 + "...")
