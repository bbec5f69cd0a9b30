from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.kinds import REPORT
from tests.unit.notifier.mail.samples import FRIDAY_EIGHT, REPORT_BODY, REPORT_DATE, a_report, ana, of_kind

from taskbell_notifier.mail.figures import read_report
from taskbell_notifier.mail.render import Renderer

json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=10), children, max_size=4),
    max_leaves=12,
)
ops = ana("en", user_id=None, name="", address="ops@example.com")


def report(renderer: Renderer, body: dict, day: date = REPORT_DATE):
    return a_report(renderer, ops, read_report(day, FRIDAY_EIGHT, body))


def test_the_report_shows_every_figure(renderer: Renderer):
    rendered = report(renderer, REPORT_BODY)
    assert rendered.subject == "Daily report, 22 Nov: 192 open tasks, 23 overdue, 9 completed"
    assert rendered.text.startswith(
        "Daily report\n============\n\nSunday, 22 November 2026, as of Fri, 20 Nov, 08:00.\n\n"
    )
    for lines in [
        "At a glance\n-----------\n  Open: 192\n  Overdue: 23\n  Created in the last 24 hours: 14\n",
        "  Completed in the last 24 hours: 9\n",
        "By status\n---------\n  Pending: 131\n  In progress: 61\n  Done: 402\n  on_hold: 2\n",
        "By priority\n-----------\n  Urgent: 9\n  Low priority: 1,234\n",
        "  Website relaunch: Open: 40, Overdue: 7\n  (no project): Open: 3, Overdue: 0\n",
        "  Reminders: Sent: 311\n  Reminders: Nothing to say: 4\n  Overdue alerts: Failed: 2\n",
        "Dead letters\n------------\n  notifier.dead: 0\n  maintenance.dead: 3\n",
        "* Renew the certificate\n  49 days overdue, was due Fri, 2 Oct\n  Website relaunch\n  Urgent · Pending\n",
    ]:
        assert lines in rendered.text
    for figure in ("192", "1,234", "on_hold", "(no project)", "notifier.dead", "Reminders: Nothing to say"):
        assert f">{figure}</" in rendered.html
    assert "49 days overdue" in rendered.html


def test_what_is_missing_is_left_out(renderer: Renderer):
    rendered = report(renderer, {})
    assert rendered.subject == "Daily report, 22 Nov"
    assert "Sunday, 22 November 2026" in rendered.text
    for heading in ("At a glance", "By status", "Dead letters", "Longest overdue"):
        assert heading not in rendered.text
    partial = report(renderer, {"overdue": 0, "by_project": [{"project": "A", "open": 1}]})
    assert partial.subject == "Daily report, 22 Nov: 0 overdue"
    assert "At a glance\n-----------\n  Overdue: 0\n" in partial.text
    assert "  A: Open: 1, Overdue: –\n" in partial.text


def test_dead_letters_that_could_not_be_counted_are_left_out(renderer: Renderer):
    assert "Dead letters" not in report(renderer, {**REPORT_BODY, "dead_letters": None}).text


def test_at_most_15_projects_and_5_oldest_tasks_are_listed(renderer: Renderer):
    body = {
        "by_project": [{"project": f"P{n}", "open": n, "overdue": 0} for n in range(1, 41)],
        "oldest_overdue": [
            {"id": n, "title": f"T{n}", "status": "pending", "due_date": "2026-10-02T10:00:00+02:00"} for n in range(9)
        ],
    }
    text = report(renderer, body).text
    assert "  P15: Open: 15" in text
    assert "P16" not in text
    assert "  and 25 more\n" in text
    assert "  and 985 more\n" in report(renderer, {**body, "projects": 1000}).text
    assert text.count("* T") == 5


@pytest.mark.parametrize("due", ["2026-10-02", "2026-10-02T10:00:00", "soon", None, 5])
def test_a_task_whose_date_cannot_be_understood_is_passed_over(renderer: Renderer, due: object):
    body = {"oldest_overdue": [{"id": 1, "title": "T", "due_date": due}]}
    assert "Longest overdue" not in report(renderer, body).text


@pytest.mark.parametrize("count", [-1, 2**63, 10**30, 1.5, True, "7", None, [1]])
def test_what_is_no_count_is_left_out(renderer: Renderer, count: object):
    rendered = report(renderer, {"overdue": count, "by_status": {"pending": count}, "projects": count})
    assert rendered.subject == "Daily report, 22 Nov"
    assert "By status" not in rendered.text


@given(st.dictionaries(st.sampled_from([*REPORT_BODY, "other"]), json))
def test_whatever_the_row_holds_it_is_read_without_error(body: dict):
    figures = read_report(REPORT_DATE, FRIDAY_EIGHT, body)
    assert figures.date == REPORT_DATE


@given(st.dictionaries(st.sampled_from([*REPORT_BODY]), json))
def test_whatever_the_row_holds_a_mail_comes_of_it(renderer: Renderer, body: dict):
    assert report(renderer, body).subject.startswith("Daily report, 22 Nov")


def test_the_report_speaks_languages_too(renderer: Renderer):
    assert of_kind(renderer, REPORT, "de").subject == (
        "Tagesbericht, 22. Nov.: 192 offene Aufgaben, 23 überfällig, 9 erledigt"
    )
