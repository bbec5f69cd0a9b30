"""When a mail that was not taken comes back."""

from datetime import timedelta
from random import Random

import pytest

from taskbell_notifier.smtp.replies import retry_delay


@pytest.mark.parametrize(("attempt", "minutes"), [(1, 1), (2, 5), (3, 15), (4, 60)])
def test_the_first_four_delays_grow_to_an_hour(attempt: int, minutes: int) -> None:
    assert retry_delay(attempt, Random(1)) == timedelta(minutes=minutes)


def test_later_delays_spread_over_four_hours_give_or_take_a_fifth() -> None:
    rng = Random(1)
    delays = [retry_delay(attempt, rng) for attempt in range(5, 2_005)]
    assert timedelta(minutes=192) <= min(delays) < timedelta(minutes=197)
    assert timedelta(minutes=283) < max(delays) <= timedelta(minutes=288)


def test_there_is_no_try_before_the_first() -> None:
    with pytest.raises(ValueError, match="counted from 1"):
        retry_delay(0, Random(1))
