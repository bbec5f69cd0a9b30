"""A schedules file is checked whole: each mistake named with entry, field and line, and nothing taken by half."""

import tomllib
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from tests.support.packages import TIMESHEETS, packages_in

from taskbell.contracts import CATALOGUE
from taskbell.errors import SettingsError
from taskbell_scheduler import toml_lines
from taskbell_scheduler.schedules import Schedule, SchedulesError, parse_schedules

WHOLE = """
[[schedule]]
name = "reminders"
cron = "0 8 * * *"
timezone = "recipient"
publish = "reminder.due"
payload = { force = true }
catch_up = "6h"
description = "Mail everyone"
"""

ENTRY = """[[schedule]]
name = "hourly"
cron = "0 * * * *"
publish = "maintenance.generate_task_report"
"""


def read(text: str, default_zone: str = "UTC") -> tuple[Schedule, ...]:
    return parse_schedules(text, origin="schedules.toml", default_zone=default_zone)


def mistakes(text: str) -> list[tuple[int | None, str, str, str]]:
    with pytest.raises(SchedulesError) as refusal:
        read(text)
    assert isinstance(refusal.value, SettingsError)
    return [(it.line, it.entry, it.field, it.reason) for it in refusal.value.mistakes]


def reason(line: str, instead_of: str) -> str:
    """The only mistake's reason, with its field, where one line of a good entry is replaced."""
    (only,) = mistakes(WHOLE.replace(instead_of, line))
    return f"{only[2]}: {only[3]}"


def test_an_entry_says_what_when_and_where() -> None:
    (schedule,) = read(WHOLE)
    assert (schedule.name, schedule.cron.text, schedule.zone) == ("reminders", "0 8 * * *", None)
    assert (schedule.publish, schedule.payload) == ("reminder.due", {"force": True})
    assert (schedule.catch_up, schedule.description) == (timedelta(hours=6), "Mail everyone")


def test_without_a_zone_it_is_timezone_and_catches_up_for_an_hour() -> None:
    (schedule,) = read('[[schedule]]\nname="a"\ncron="* * * * *"\npublish="reminder.due"', "Asia/Tokyo")
    assert schedule.zone
    assert schedule.zone.key == "Asia/Tokyo"
    assert (schedule.catch_up, schedule.payload) == (timedelta(hours=1), {})


def test_the_shipped_file_is_the_promised_one() -> None:
    text = files("taskbell_scheduler").joinpath("schedules.toml").read_text(encoding="utf-8")
    shipped = [
        (s.name, s.cron.text, s.zone.key if s.zone else "recipient", s.publish, s.catch_up / timedelta(hours=1))
        for s in read(text, "Europe/Rome")
    ]
    assert shipped == [
        ("daily-report", "0 7 * * *", "Europe/Rome", "maintenance.generate_task_report", 12),
        ("reminders", "0 8 * * *", "recipient", "reminder.due", 6),
        ("overdue-alerts", "0 9 * * *", "recipient", "overdue.due", 6),
        ("weekly-summary", "0 10 * * mon", "recipient", "weekly.due", 24),
        ("cleanup", "0 2 * * sun", "Europe/Rome", "maintenance.cleanup_completed_tasks", 24),
    ]


def test_events_carry_time_and_zone_and_commands_the_time_alone() -> None:
    at = datetime(2026, 11, 20, 7, tzinfo=UTC)
    (reminders,) = read(WHOLE)
    assert reminders.body(at, "Europe/Berlin") == {
        "force": True,
        "occurrence": "2026-11-20T07:00:00Z",
        "timezone": "Europe/Berlin",
    }
    (report,) = read('[[schedule]]\nname="r"\ncron="0 7 * * *"\npublish="maintenance.generate_task_report"')
    assert report.body(at, "UTC") == {"occurrence": "2026-11-20T07:00:00Z"}
    (mail,) = read(
        '[[schedule]]\nname="m"\ncron="0 7 * * *"\npublish="notifier.send_test_mail"\npayload={to="a@b.example"}'
    )
    assert mail.body(at, "UTC") == {"to": "a@b.example"}


def test_toml_dates_go_out_as_text() -> None:
    (report,) = read(
        '[[schedule]]\nname="r"\ncron="0 7 * * *"\npublish="maintenance.generate_task_report"\n'
        "payload = { date = 2026-01-31 }"
    )
    assert report.payload == {"date": "2026-01-31"}


TEN_KINDS = '''\
[[schedule]]
cron = "0 8 * * *"
publish = "reminder.due"

[[schedule]]   # the second
name = "daily"
cron = "0 8 30 2 *"
publish = "reminder.du"

[[schedule]]
name = "daily"
cron = "@daily"
timezone = "Europe/Berln"
publish = "reminder.due"
description = """
[[schedule]]
"""

[[ "schedule" ]]
name = "report"
crom = "0 7 * * *"
timezone = "recipient"
publish = "maintenance.generate_task_report"
catch_up = "6 hours"

[[schedule]]
name = "fifth"
cron = "0 8 * * *"
publish = "maintenance.update_task_status"
payload = { task_id = "seven", new_status = "done", ocurrence = "x" }
'''


def test_all_mistakes_are_named_at_once_with_entry_field_and_line() -> None:
    assert mistakes(TEN_KINDS) == [
        (1, "#1", "name", "is missing"),
        (5, '"daily"', "cron", "never comes: no date has day of month 30 in month 2"),
        (
            5,
            '"daily"',
            "publish",
            "'reminder.du' is not a message; did you mean 'reminder.due'? If a package brings it, install that package "
            "beside the scheduler, or take the schedule out",
        ),
        (10, '"daily"', "cron", "@daily is not supported; write '0 0 * * *'"),
        (10, '"daily"', "timezone", "'Europe/Berln' is not an IANA time zone; did you mean 'Europe/Berlin'?"),
        (10, '"daily"', "name", "is already the name of the entry at line 5"),
        (19, '"report"', "crom", "is unknown; did you mean 'cron'?"),
        (19, '"report"', "cron", "is missing"),
        (
            19,
            '"report"',
            "catch_up",
            "'6 hours' is not a duration: write a whole number and s, m, h or d; did you mean '6h'?",
        ),
        (
            19,
            '"report"',
            "timezone",
            "'recipient' needs a message with a field timezone; maintenance.generate_task_report has none",
        ),
        (26, '"fifth"', "payload", "maintenance.update_task_status has no field 'ocurrence'"),
        (26, '"fifth"', "payload", "task_id: Input should be a valid integer"),
    ]


OF_A_PACKAGE = WHOLE.replace("reminder.due", "timesheets.approve").replace("{ force = true }", "{ entry_id = 7 }")


def test_a_schedule_may_publish_a_packages_message(tmp_path: Path) -> None:
    with packages_in(tmp_path) as packages:
        packages.install("acme-timesheets", TIMESHEETS)
        (schedule,) = read(OF_A_PACKAGE.replace('"recipient"', '"UTC"'))
        assert schedule.body(datetime(2026, 1, 1, tzinfo=UTC), "UTC") == {"entry_id": 7}


def test_of_a_package_that_was_removed_it_is_told_what_to_do() -> None:
    assert mistakes(OF_A_PACKAGE)[0][-1] == (
        "'timesheets.approve' is not a message. If a package brings it, install that package beside the scheduler, or "
        "take the schedule out"
    )


def test_the_error_reads_as_a_list_for_people() -> None:
    with pytest.raises(SchedulesError) as refusal:
        read('[[schedule]]\nname = "a b"\ncron = "0 8 * *"')
    assert str(refusal.value).splitlines()[:2] == [
        "schedules.toml has 3 mistakes:",
        '  line 1: schedule "a b": publish: is missing',
    ]


@pytest.mark.parametrize(
    ("line", "instead_of", "expected"),
    [
        ('name = ""', 'name = "reminders"', "name: '' must be 1 to 64 letters"),
        ('name = "*"', 'name = "reminders"', "name: '*' must be 1 to 64 letters"),
        (f'name = "{"a" * 65}"', 'name = "reminders"', "name: 'aaa"),
        ("name = 5", 'name = "reminders"', "name: must be a text in quotes, not a number"),
        ("cron = true", 'cron = "0 8 * * *"', "cron: must be a text in quotes, not true or false"),
        ("cron = 08:00:00", 'cron = "0 8 * * *"', "cron: must be a text in quotes, not a date or time"),
        (
            'timezone = "berlin"',
            'timezone = "recipient"',
            "timezone: 'berlin' is not an IANA time zone; did you mean 'Europe/Berlin'?",
        ),
        ('timezone = "New York"', 'timezone = "recipient"', "did you mean 'America/New_York'?"),
        ('timezone = "Recipients"', 'timezone = "recipient"', "did you mean 'recipient'?"),
        ('timezone = "localtime"', 'timezone = "recipient"', "timezone: 'localtime' is not an IANA time zone"),
        ('timezone = ""', 'timezone = "recipient"', "timezone: '' is not an IANA time zone"),
        ("publish = []", 'publish = "reminder.due"', "publish: must be a text in quotes, not a list"),
        ("payload = 3", "payload = { force = true }", "payload: must be a table"),
        ("payload = { force = 1 }", "payload = { force = true }", "payload: force: Input should be a valid boolean"),
        ("payload = { force = nan }", "payload = { force = true }", "payload: nan cannot be sent"),
        ('payload = { timezone = "UTC" }', "payload = { force = true }", "payload: the scheduler fills in 'timezone'"),
        ("payload = { user_id = [1] }", "payload = { force = true }", "did you mean 'user_ids'?"),
        ("payload = { user_ids = [0] }", "payload = { force = true }", "payload: user_ids.0: "),
        (
            "catch_up = 6",
            'catch_up = "6h"',
            "catch_up: 6 is not a duration: write a whole number and s, m, h or d; did you mean '6s'?",
        ),
        ('catch_up = "2 weeks"', 'catch_up = "6h"', "did you mean '14d'?"),
        ('catch_up = "-1h"', 'catch_up = "6h"', "catch_up: '-1h' is not a duration"),
        ('catch_up = "61d"', 'catch_up = "6h"', "catch_up: '61d' is longer than 60d"),
        ('catch_up = "999999999d"', 'catch_up = "6h"', "catch_up: '999999999d' is longer than 60d"),
        (f'description = "{"x" * 301}"', 'description = "Mail everyone"', "description: is longer than 300"),
        ("enabled = false", 'catch_up = "6h"', "enabled: is unknown"),
    ],
)
def test_each_kind_of_mistake_has_its_words(line: str, instead_of: str, expected: str) -> None:
    assert expected in reason(line, instead_of)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", [(None, "", "", "has no [[schedule]]: nothing would ever be published")]),
        ("# nothing\n", [(None, "", "", "has no [[schedule]]: nothing would ever be published")]),
        ("[[schedules]]\nname = 'a'", [(1, "", "schedules", "is unknown; did you mean 'schedule'?")]),
        ("\n[schedule]\nname = 'a'", [(2, "", "schedule", "must be entries, each below its own [[schedule]]")]),
        ("schedule = ['a']", [(1, "", "schedule", "must be entries, each below its own [[schedule]]")]),
    ],
)
def test_a_file_that_is_no_list_of_schedules(text: str, expected: list[tuple[int | None, str, str, str]]) -> None:
    assert mistakes(text) == expected


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('[[schedule]]\nname = "a"\ncron = 0 8 * * *\n', 3),
        ('[[schedule]]\nname = "a', 2),
        ("[[schedule]]\nname = [\n", 2),
        ('[[schedule]]\nname = "a"\nname = "b"\n', 3),
    ],
)
def test_broken_toml_is_named_with_its_line(text: str, line: int) -> None:
    ((found, entry, field, words),) = mistakes(text)
    assert (found, entry, field) == (line, "", "")
    assert words.startswith("is not TOML: ")
    assert "at line" not in words


def test_entries_written_as_one_list_share_its_line() -> None:
    assert [it[:3] for it in mistakes('\nschedule = [{ name = "a" }, { name = "a", cron = "0 8 * * *" }]')] == [
        (2, '"a"', "cron"),
        (2, '"a"', "publish"),
        (2, '"a"', "publish"),
        (2, '"a"', "name"),
    ]


def test_any_message_can_be_scheduled() -> None:
    payloads = {
        "mailing.completed": '{ mailing_id = 1, kind = "weekly", counts = {} }',
        "mail.failed": '{ delivery_id = 1, user_id = 1, kind = "weekly", reason = "x" }',
        "report.generated": "{ date = 2026-01-01, as_of = 2026-01-02T00:00:00Z }",
        "tasks.archived": '{ batch_id = 1, tasks = 1, held = 0, mode = "archive" }',
        "task.status_changed": '{ task_id = 1, old_status = "a", new_status = "b", requested_by = "c" }',
        "maintenance.update_task_status": '{ task_id = 1, new_status = "done" }',
        "notifier.send_test_mail": '{ to = "a@b.example" }',
        "notifier.report_bounce": '{ type = "hard", address = "a@b.example" }',
        "notifier.send_batch": "{ delivery_ids = [1] }",
    }
    for key in CATALOGUE:
        entry = f'[[schedule]]\nname="a"\ncron="0 8 * * *"\npublish="{key}"\npayload={payloads.get(key, "{}")}'
        assert read(entry)[0].publish == key


@pytest.mark.parametrize(
    "payload",
    ["a = " + "[" * 30 + "]" * 30, "a = " + "{ b = " * 3_000 + "1" + " }" * 3_000, "a" + ".a" * 3_000 + " = 1"],
    ids=["lists", "tables", "keys"],
)
def test_a_file_that_is_nested_deeply_is_refused_in_a_sentence(payload: str) -> None:
    ((*_, words),) = mistakes(ENTRY + f"payload = {{ {payload} }}\n")
    assert words in {"is not read: it is nested too deeply", "is nested more than 20 deep"}


TANGLED = '''
[[schedule]] # a comment: [[ " {
name = "a"
description = """
[[schedule]]
a""""
[[schedule]]
name = "b\\"["
description = \'\'\'
[[schedule]]\'\'\'\'
cron = 'C:\\'
payload = { user_ids = [
["schedule"]
], force = "#" }
 [[ "schedule" ]]
name = "c"
[schedule.payload]
[[schedule]]
'''


def test_lines_of_entries_are_found_beside_strings_arrays_and_comments_that_look_like_them() -> None:
    lines = toml_lines.table_lines(TANGLED, "schedule")
    assert len(lines) == len(tomllib.loads(TANGLED)["schedule"])
    assert [TANGLED.split("\n")[line - 1].split("#")[0].strip() for line in lines] == [
        "[[schedule]]",
        "[[schedule]]",
        '[[ "schedule" ]]',
        "[[schedule]]",
    ]
    assert lines == [2, 7, 15, 18]


def test_a_file_is_read_once_however_many_entries_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    read, loads = [], tomllib.loads

    def counted(text: str) -> dict[str, Any]:
        read.append(text)
        return loads(text)

    monkeypatch.setattr(tomllib, "loads", counted)
    parse_schedules("".join(ENTRY.replace("hourly", f"n{n}") for n in range(50)), origin="f", default_zone="UTC")
    assert len(read) == 1


@pytest.mark.parametrize(
    ("zone", "default", "expected"),
    [
        ("recipient", "UTC", []),
        ("Europe/Berlin", "UTC", []),
        ("UTC", "Europe/Berlin", ["this mails only people whose zone is UTC; "]),
        ("Etc/GMT", "UTC", ["this mails only people whose zone is Etc/GMT; "]),
        (
            None,
            "Europe/Berlin",
            ["is not given, so it is TIMEZONE: this mails only people whose zone is Europe/Berlin; "],
        ),
    ],
)
def test_a_mailing_to_the_people_of_no_zone_that_was_meant_is_warned_of(
    zone: str | None, default: str, expected: list[str]
) -> None:
    given = ENTRY.replace("maintenance.generate_task_report", "reminder.due")
    (schedule,) = read(given + (f'timezone = "{zone}"\n' if zone else ""), default)
    assert [str(it) for it in schedule.warnings] == [
        f"line 1: schedule \"hourly\": timezone: {it}'recipient' mails everybody at their local time" for it in expected
    ]


def test_a_command_may_be_due_in_utc() -> None:
    (schedule,) = read(ENTRY + 'timezone = "UTC"\n')
    assert schedule.warnings == ()
