"""When a mail that was not taken is tried again: after 1, 5, 15 and 60 minutes, then every 4 hours ± 20 %."""

from datetime import timedelta
from random import Random

FIRST_DELAYS = (timedelta(minutes=1), timedelta(minutes=5), timedelta(minutes=15), timedelta(minutes=60))
LATER_DELAY = timedelta(hours=4)
SPREAD = 0.2
"""Keeps mails that were deferred together from all coming back together, every four hours."""


def retry_delay(attempt: int, rng: Random) -> timedelta:
    """How long to wait after the `attempt`-th counted try (1 is the first) before the next one.

    Raises:
        ValueError: attempt is less than 1.
    """
    if attempt < 1:
        msg = f"tries are counted from 1, not {attempt}"
        raise ValueError(msg)
    if attempt <= len(FIRST_DELAYS):
        return FIRST_DELAYS[attempt - 1]
    return LATER_DELAY * rng.uniform(1 - SPREAD, 1 + SPREAD)
