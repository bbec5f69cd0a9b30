"""Waits for a condition, with a time limit."""

import time
from collections.abc import Callable

PAUSE = 0.02  # seconds between two checks; a check takes a few system calls or one request on the loopback address


def wait_until(condition: Callable[[], bool], *, limit: float) -> bool:
    """Check the condition again and again until it holds; return False if it does not hold within `limit` seconds.

    The condition is checked once more when the time is over, so that a slow machine cannot miss it.
    """
    deadline = time.monotonic() + limit
    while not condition():
        if time.monotonic() > deadline:
            return condition()
        time.sleep(PAUSE)
    return True
