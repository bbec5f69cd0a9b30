"""Waiting for a condition, with a limit."""

import time
from collections.abc import Callable

PAUSE = 0.02  # seconds between two looks; a look is a few system calls or one request on the loopback


def wait_until(condition: Callable[[], bool], *, limit: float) -> bool:
    """Look again and again until the condition holds; False when it does not within `limit` seconds.

    The condition is looked at once more when the time is over, so that a busy machine cannot miss it.
    """
    deadline = time.monotonic() + limit
    while not condition():
        if time.monotonic() > deadline:
            return condition()
        time.sleep(PAUSE)
    return True
