"""SIGTERM and SIGINT, from the first line of a service's process to its last: they end it with exit status 0.

An event loop's own handlers are gone before the interpreter has ended, and then a further signal would kill the process
with another status. So these signals are blocked once the loop runs, and one thread waits for the first of them; what
comes later stays pending until the process has ended.
"""

import asyncio
import contextlib
import os
import signal
import threading
from types import FrameType

STOPPING = (signal.SIGTERM, signal.SIGINT)


def end_at_once() -> None:
    """Makes the process end with status 0 at a signal, as long as nothing runs that has to be drained."""
    for number in STOPPING:
        signal.signal(number, _end)


def stop_on_signals(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    """Makes the first signal set `stop`, and all further ones change nothing. Call it in the main thread, once."""

    def received() -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(stop.set)

    def wait() -> None:
        signal.sigwait(STOPPING)
        received()

    # A thread of somebody else's, older than this, may still get a signal.
    for number in STOPPING:
        signal.signal(number, lambda *_: received())
    # Threads inherit this.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    threading.Thread(target=wait, name="signals", daemon=True).start()


def _end(_number: int, _frame: FrameType | None) -> None:
    # Not SystemExit: the module that is being imported at this moment may catch it.
    os._exit(0)
