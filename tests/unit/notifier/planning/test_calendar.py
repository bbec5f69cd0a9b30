"""What period an occurrence falls in, zone by zone."""

from datetime import UTC, datetime

import pytest
from tests.support.kinds import OVERDUE, REMINDER, WEEKLY

from taskbell.kinds import Kind
from taskbell_notifier.planning.planner import Calendar

# 2026-11-22 is a Sunday. At 23:30 in UTC it is Monday in Berlin and further east, and Sunday afternoon in New York.
LATE_SUNDAY = datetime(2026, 11, 22, 23, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("kind", "zone", "period"),
    [
        (OVERDUE, "UTC", "2026-11-22"),
        (OVERDUE, "Europe/Berlin", "2026-11-23"),
        (OVERDUE, "America/New_York", "2026-11-22"),
        (REMINDER, "Pacific/Kiritimati", "2026-11-23"),
        (WEEKLY, "UTC", "2026-11-16"),
        (WEEKLY, "Europe/Berlin", "2026-11-23"),
        (WEEKLY, "America/New_York", "2026-11-16"),
    ],
)
def test_the_period_is_the_local_date_and_for_the_weekly_mail_the_monday_of_the_local_week(
    kind: Kind, zone: str, period: str
) -> None:
    found = Calendar("UTC").periods(kind, LATE_SUNDAY)
    assert dict(zip(found.names, found.periods, strict=True))[zone] == period


def test_who_has_no_known_zone_has_the_period_of_the_default_one() -> None:
    found = Calendar("Asia/Tokyo").periods(OVERDUE, LATE_SUNDAY)
    assert (found.default_name, found.default) == ("Asia/Tokyo", "2026-11-23")


@pytest.mark.parametrize("name", ["Foo/Bar", "localtime", "Factory", "posix/UTC", "right/UTC", "", "europe/berlin"])
def test_what_is_no_zone_is_not_in_it(name: str) -> None:
    assert name not in Calendar("UTC").periods(OVERDUE, LATE_SUNDAY).names
