"""Which day a report is for."""

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest

from taskbell_maintenance.domain import report_date

NOON = datetime(2026, 3, 15, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("zone", "wanted", "day"),
    [
        ("UTC", None, date(2026, 3, 15)),
        ("Pacific/Kiritimati", None, date(2026, 3, 16)),  # UTC+14: 02:00 of the next day
        ("Pacific/Niue", None, date(2026, 3, 15)),  # UTC-11: 01:00
        ("UTC", date(2026, 3, 15), date(2026, 3, 15)),
        ("UTC", date(2026, 3, 16), None),
        ("Pacific/Kiritimati", date(2026, 3, 16), date(2026, 3, 16)),
        ("Pacific/Kiritimati", date(2026, 3, 17), None),
        ("UTC", date(1, 1, 1), date(1, 1, 1)),
        ("UTC", date(9999, 12, 31), None),
    ],
)
def test_its_day_is_the_local_one_and_never_in_the_future(zone: str, wanted: date | None, day: date | None) -> None:
    assert report_date(wanted, NOON, NOON, ZoneInfo(zone)) == day


def test_an_occurrence_of_long_ago_is_for_its_own_day() -> None:
    at = datetime(2026, 3, 8, 23, 30, tzinfo=UTC)
    assert report_date(None, at, NOON, ZoneInfo("Europe/Berlin")) == date(2026, 3, 9)


def test_an_occurrence_of_a_day_to_come_has_no_report() -> None:
    assert report_date(None, datetime(2026, 3, 17, tzinfo=UTC), NOON, ZoneInfo("UTC")) is None
