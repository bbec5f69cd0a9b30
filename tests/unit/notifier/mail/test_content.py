"""What the mails say. T is Friday, 20 November 2026, 08:00 in Berlin, unless a test says otherwise."""

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from tests.support.kinds import KINDS, OVERDUE, REMINDER, REPORT, TEST, WEEKLY, name
from tests.unit.notifier.mail.samples import (
    FRIDAY_EIGHT,
    a_task,
    a_test_mail,
    ana,
    done_before,
    due_in,
    mailing,
    of_kind,
)

from taskbell.kinds import Found, Kind, Listed
from taskbell_notifier.kinds.table import OWN
from taskbell_notifier.mail.links import Links
from taskbell_notifier.mail.render import Renderer


def titles(text: str) -> list[str]:
    return re.findall(r"^\* (.*)$", text, flags=re.MULTILINE)


@pytest.mark.parametrize(
    ("locale", "subject"),
    [
        ("en", "Due today 17:30: Sign the contract"),
        ("en-US", "Due today 5:30 PM: Sign the contract"),
        ("de", "Heute 17:30 fällig: Sign the contract"),
        ("fr", "Échéance aujourd’hui 17:30 : Sign the contract"),
        ("es", "Vence hoy 17:30: Sign the contract"),
        ("ja", "Due today 17:30: Sign the contract"),
        (None, "Due today 17:30: Sign the contract"),
    ],
)
def test_a_reminder_of_one_task_names_it_with_its_time(renderer: Renderer, locale: str | None, subject: str):
    rendered = mailing(renderer, REMINDER, [due_in(9.5, title="Sign the contract")], ana(locale))
    assert rendered.subject.replace("\u202f", " ") == subject


@pytest.mark.parametrize(
    ("hours", "later", "subject"),
    [
        (16, 0, "Due tomorrow 00:00: Call"),
        (23.5, 0, "Due tomorrow 07:30: Call"),
        (1, 2, "Due today 09:00: Call"),  # the mail came late: the time has passed, the day has not
        (1, 20, "Was due Fri, 20 Nov, 09:00: Call"),
        (23, -30, "Due Sat, 21 Nov, 07:00: Call"),  # asked for by hand, well ahead
    ],
)
def test_its_words_are_of_the_moment_of_rendering(renderer: Renderer, hours: float, later: float, subject: str):
    now = FRIDAY_EIGHT + timedelta(hours=later)
    assert mailing(renderer, REMINDER, [due_in(hours, title="Call")], now=now).subject == subject


def test_a_reminder_of_several_counts_them_and_lists_them_by_time(renderer: Renderer):
    tasks = [due_in(8, 1, title="C"), due_in(0.75, 2, title="A"), due_in(5, 3, title="B")]
    rendered = mailing(renderer, REMINDER, tasks)
    assert rendered.subject == "3 tasks due in the next 24 hours"
    assert titles(rendered.text) == ["A", "B", "C"]
    assert re.findall(r"\((.*?)\)\n", rendered.text)[:3] == ["in 45 minutes", "in 5 hours", "in 8 hours"]
    assert "Fri, 20 Nov, 08:45 (in 45 minutes)" in rendered.text


def test_a_task_shows_title_link_project_date_priority_and_status(renderer: Renderer):
    task = due_in(5, 42, title="Sign", project="Legal", priority="urgent", status="in_progress")
    rendered = mailing(renderer, REMINDER, [task])
    assert (
        "* Sign\n  Fri, 20 Nov, 13:00 (in 5 hours)\n  Legal\n  Urgent · In progress\n"
        "  https://app.example.com/tasks/42\n"
    ) in rendered.text
    for words in ("Sign", "Legal", "Fri, 20 Nov, 13:00", "in 5 hours", "Urgent · In progress"):
        assert words in rendered.html
    assert 'href="https://app.example.com/tasks/42"' in rendered.html


def test_a_priority_that_we_do_not_know_is_shown_as_it_is_and_none_is_left_out(renderer: Renderer):
    rendered = mailing(
        renderer, REMINDER, [due_in(1, 1, priority="P0 <now>"), due_in(2, 2, priority=None, project=None)]
    )
    assert "  P0 <now> · Pending\n" in rendered.text
    assert "P0 &lt;now&gt; · Pending" in rendered.html
    assert "(in 2 hours)\n  Pending\n" in rendered.text


def test_an_overdue_alert_of_one_task_names_it(renderer: Renderer):
    rendered = mailing(renderer, OVERDUE, [due_in(-30, title="Renew")])
    assert rendered.subject == "Overdue: Renew"
    assert "1 day overdue, was due Thu, 19 Nov\n" in rendered.text
    assert ">Open task</a>" in rendered.html


def test_an_overdue_alert_of_several_counts_them_longest_overdue_first(renderer: Renderer):
    tasks = [due_in(-7, 1, title="Today"), due_in(-8.5, 2, title="Night"), due_in(-300, 3, title="Old"), due_in(-50, 4)]
    rendered = mailing(renderer, OVERDUE, tasks)
    assert rendered.subject == "4 overdue tasks"
    assert titles(rendered.text)[::3] == ["Old", "Today"]
    # 7 hours before 08:00 is 01:00 today; 8.5 hours before is 23:30 yesterday, a calendar day ago
    assert re.findall(r"^  (.*was due.*)$", rendered.text, flags=re.MULTILINE) == [
        "13 days overdue, was due Sat, 7 Nov",
        "2 days overdue, was due Wed, 18 Nov",
        "1 day overdue, was due Thu, 19 Nov",
        "due earlier today, was due at 01:00",
    ]
    assert ">Open tasks</a>" in rendered.html


def test_a_date_of_another_year_carries_its_year(renderer: Renderer):
    rendered = mailing(renderer, OVERDUE, [due_in(-24 * 365)])
    assert "365 days overdue, was due Thu, 20 Nov 2025" in rendered.text


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Tokyo"])
def test_a_date_at_the_edge_of_the_calendar_is_shown_in_utc(renderer: Renderer, zone: str):
    ancient = a_task(due_date=datetime(1, 1, 1, tzinfo=UTC))  # as the driver gives PostgreSQL's -infinity
    rendered = mailing(renderer, OVERDUE, [ancient], ana(zone=ZoneInfo(zone)))
    # 2025 whole years of the proleptic calendar, 491 of them leap years, and the days of 2026
    assert f"{2025 * 365 + 491 + 323:,} days overdue, was due Mon, 1 Jan 1" in rendered.text


def test_what_is_not_due_yet_is_not_called_overdue_days(renderer: Renderer):
    ahead = FRIDAY_EIGHT + timedelta(days=2)  # an overdue mailing asked for with a time that lies ahead
    rendered = mailing(renderer, OVERDUE, [due_in(5)], at=ahead, now=FRIDAY_EIGHT)
    assert "Fri, 20 Nov, 13:00 (in 5 hours)" in rendered.text
    assert "was due" not in rendered.text


@pytest.mark.parametrize(("kind", "hours"), [(REMINDER, 0.5), (OVERDUE, -20)], ids=["reminder", "overdue"])
@pytest.mark.parametrize(("count", "more"), [(25, None), (26, "and 1 more"), (37, "and 12 more")])
def test_at_most_25_tasks_are_listed_and_the_others_counted_with_a_link(
    renderer: Renderer, kind: Kind, hours: float, count: int, more: str | None
):
    rendered = mailing(renderer, kind, [due_in(hours, number) for number in range(1, count + 1)])
    assert rendered.subject.startswith(f"{count} ")
    assert len(titles(rendered.text)) == 25
    assert rendered.html.count("<bdi>Prepare") == 25
    lines = rendered.text.split("\n")
    if more is None:
        assert "more" not in rendered.text
    else:
        assert lines[lines.index(more) + 1] == "https://app.example.com"
        assert re.search(f'<a [^>]*href="https://app.example.com"[^>]*>{more}</a>', rendered.html)


def test_tasks_that_were_only_counted_are_counted(renderer: Renderer):
    task = due_in(-1, 1)
    week = {"overdue": Listed((task,), 99), "upcoming": Listed((due_in(1, 2),), 199)}
    contents = {
        REMINDER: Found({"tasks": Listed((due_in(1, 1),), more=1_499)}, {}),
        OVERDUE: Found({"tasks": Listed((task,), more=1_499)}, {}),
        WEEKLY: Found(week, {"pending": 3, "in_progress": 4, "completed": 5}),
    }
    rendered = {
        kind: renderer.render(kind, ana(), content, at=FRIDAY_EIGHT, now=FRIDAY_EIGHT)
        for kind, content in contents.items()
    }
    assert rendered[REMINDER].subject == "1,500 tasks due in the next 24 hours"
    assert rendered[OVERDUE].subject == "1,500 overdue tasks"
    assert rendered[WEEKLY].subject == "Your week: 100 overdue, 200 due"
    for kind in (REMINDER, OVERDUE):
        assert "\nand 1,499 more\n" in rendered[kind].text
        assert ">and 1,499 more</a>" in rendered[kind].html
    assert re.findall(r"and \d+ more", rendered[WEEKLY].text) == ["and 199 more", "and 99 more"]
    assert "\nOverdue: 100\n" in rendered[WEEKLY].text


@pytest.mark.parametrize(
    ("tasks", "subject"),
    [
        (
            [due_in(-1, 1), due_in(-2, 2), due_in(-3, 3), *(due_in(n, n) for n in range(4, 9))],
            "Your week: 3 overdue, 5 due",
        ),
        ([due_in(1)], "Your week: 1 due"),
        ([due_in(-1)], "Your week: 1 overdue"),
        ([a_task(1, due_date=None), due_in(24 * 30, 2)], "Your week: 2 open tasks"),
        ([done_before(1), done_before(2, 2)], "Your week: 2 tasks completed"),
    ],
)
def test_the_subject_of_a_week_tells_what_matters_in_it(renderer: Renderer, tasks: list, subject: str):
    assert mailing(renderer, WEEKLY, tasks).subject == subject


def test_a_week_shows_counts_ten_upcoming_by_day_and_five_longest_overdue(renderer: Renderer):
    monday = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)  # 10:00 in Berlin
    upcoming = [a_task(n, title=f"U{n}", due_date=monday + timedelta(hours=min(14 * n, 167))) for n in range(1, 13)]
    overdue = [
        a_task(50 + n, title=f"O{n}", status="in_progress", due_date=monday - timedelta(days=n)) for n in range(1, 8)
    ]
    done = [a_task(90, status="done", completed_at=monday - timedelta(days=1))]
    rendered = mailing(renderer, WEEKLY, upcoming + overdue + done, at=monday)
    assert rendered.subject == "Your week: 7 overdue, 12 due"
    assert "The week of Mon, 23 Nov at a glance." in rendered.text
    assert "Pending: 12\nIn progress: 7\nCompleted in the last 7 days: 1\nOverdue: 7\n" in rendered.text
    assert titles(rendered.text) == [f"U{n}" for n in range(1, 11)] + [f"O{n}" for n in (7, 6, 5, 4, 3)]
    days = re.findall(r"^((?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d+ Nov)$", rendered.text, flags=re.MULTILINE)
    # 14 hours after Monday 10:00 it is Tuesday in Berlin, and still Monday in UTC
    assert days == ["Tue, 24 Nov", "Wed, 25 Nov", "Thu, 26 Nov", "Fri, 27 Nov", "Sat, 28 Nov", "Sun, 29 Nov"]
    assert re.findall(r"and \d+ more", rendered.text) == ["and 2 more", "and 2 more"]
    assert ">Plan my week</a>" in rendered.html


def test_an_empty_week_says_that_nothing_is_due(renderer: Renderer):
    rendered = mailing(renderer, WEEKLY, [done_before(1)])
    assert "Nothing is due in the next 7 days." in rendered.text
    assert "Nothing is due in the next 7 days." in rendered.html
    assert "Longest overdue" not in rendered.text


@pytest.mark.parametrize("kind", OWN, ids=name)
@pytest.mark.parametrize(
    ("zone", "words"),
    [
        ("Europe/Berlin", "Central European Standard Time (Europe/Berlin)"),
        ("Asia/Kolkata", "GMT+05:30 (Asia/Kolkata)"),
        ("UTC", "Coordinated Universal Time (UTC)"),
    ],
)
def test_the_zone_is_named_once(renderer: Renderer, kind: Kind, zone: str, words: str):
    person = ana(zone=ZoneInfo(zone))
    if kind is TEST:
        rendered = a_test_mail(renderer, person)
    elif kind is REPORT:
        rendered = of_kind(renderer, kind)
        words = "Central European Standard Time (Europe/Berlin)"
    else:
        rendered = mailing(renderer, kind, [due_in(1), due_in(-1, 2)], person)
    assert rendered.text.count(words) == rendered.html.count(words) == 1


def test_times_are_those_of_the_recipients_zone(renderer: Renderer):
    task = due_in(0.25, title="Call")  # 07:15 UTC
    for zone, words in [
        ("Asia/Kolkata", "today 12:45"),
        ("America/New_York", "today 02:15"),
        ("Pacific/Auckland", "today 20:15"),
    ]:
        assert mailing(renderer, REMINDER, [task], ana(zone=ZoneInfo(zone))).subject == f"Due {words}: Call"


@pytest.mark.parametrize(
    ("kind", "label"),
    [
        (REMINDER, "Unsubscribe from reminders"),
        (OVERDUE, "Unsubscribe from overdue alerts"),
        (WEEKLY, "Unsubscribe from weekly summaries"),
    ],
)
def test_the_footer_tells_why_how_to_stop_and_who_sends(renderer: Renderer, kind: Kind, label: str):
    rendered = of_kind(renderer, kind)
    footer = rendered.text.partition("\n-- \n")[2]
    assert footer.startswith("You get this mail ")
    assert f"\n{label}:\nhttps://taskbell.example.com/u/" in footer
    assert footer.endswith("\nSent by Taskbell\n")
    without = of_kind(renderer, kind, unsubscribe_url=None)
    assert "nsubscribe" not in without.text
    assert "nsubscribe" not in without.html


@pytest.mark.parametrize("kind", OWN, ids=name)
def test_without_the_apps_address_a_mail_has_no_links_and_reads_well(linkless: Renderer, kind: Kind):
    rendered = of_kind(linkless, kind, unsubscribe_url=None, count=30)
    assert "http" not in rendered.text
    assert "<a " not in rendered.html
    assert "\n\n\n" not in rendered.text
    assert "None" not in rendered.text + rendered.html


def test_the_pattern_of_task_links_can_be_changed():
    renderer = Renderer(KINDS, Links("https://app.example.com/", "{app_url}/t?open={id}&from=mail"))
    rendered = mailing(renderer, OVERDUE, [due_in(-1, 5)])
    assert "https://app.example.com/t?open=5&from=mail" in rendered.text
    assert "https://app.example.com/t?open=5&amp;from=mail" in rendered.html
    apart = Renderer(KINDS, Links(None, "https://other.example/{id}"))
    assert "https://other.example/5" in mailing(apart, OVERDUE, [due_in(-1, 5)]).text


@pytest.mark.parametrize(
    ("app_url", "pattern"),
    [
        ("app.example.com", "{app_url}/tasks/{id}"),
        ("javascript:alert(1)", "{app_url}/tasks/{id}"),
        ("https://app.example.com/ü", "{app_url}/{id}"),
        ("https://app.example.com", "{app_url}/tasks"),
        ("https://app.example.com", "{app_url}/{id}/{id}"),
        ("https://app.example.com", "{app_url}/{user}/{id}"),
        ("https://app.example.com", "/tasks/{id}"),
        ('https://app.example.com"x', "{app_url}/{id}"),
    ],
)
def test_links_that_would_not_be_absolute_are_refused_at_start(app_url: str, pattern: str):
    with pytest.raises(ValueError, match=r"APP_URL|TASK_URL_PATTERN"):
        Links(app_url, pattern)


def test_a_product_may_carry_another_name():
    renderer = Renderer(KINDS, Links(), product="Tasks & <Co>")
    rendered = a_test_mail(renderer, ana())
    assert rendered.subject == "Test mail from Tasks & <Co>"
    assert "Tasks &amp; &lt;Co&gt;" in rendered.html
    assert "Written on Fri, 20 Nov 2026, 08:00." in rendered.text


def test_a_nameless_person_is_not_greeted_by_name(renderer: Renderer):
    assert mailing(renderer, OVERDUE, [due_in(-1)], ana(name=" \u202e ")).text.startswith("1 overdue task\n")
    assert mailing(renderer, OVERDUE, [due_in(-1)], ana(name="Bo")).text.startswith("Hello Bo,\n")
