"""An event loop in a thread of its own, for plain blocking code."""

import asyncio
import os
import selectors
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

Result = TypeVar("Result")

END = 10.0
"""Seconds that ending may take; closing connections has a shorter limit of its own."""


class LoopThread:
    """An event loop that turns in a daemon thread of the process that made it, and in none that is forked from it."""

    def __init__(self, name: str) -> None:
        self._pid = os.getpid()
        self._selector = selectors.DefaultSelector()  # ours to look into: it knows all sockets of the loop
        self._loop = asyncio.SelectorEventLoop(self._selector)
        self._thread = threading.Thread(target=self._turn, name=name, daemon=True)
        self._thread.start()

    @property
    def is_inherited(self) -> bool:
        """We are in a child of the process that it belongs to: here nothing turns."""
        return self._pid != os.getpid()

    def submit(self, work: Coroutine[Any, Any, Result]) -> "Future[Result]":
        """Starts that work in the loop."""
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError:  # the loop has ended: the interpreter is about to
            work.close()
            raise

    def end(self, last: Coroutine[Any, Any, None]) -> None:
        """Does that last piece of work, cancels all other, and ends; waits for it unless called in the loop itself."""
        # Threadsafe: where the work is done already, the callback is called here, and the loop sleeps.
        self.submit(last).add_done_callback(lambda _: self._loop.call_soon_threadsafe(self._loop.stop))
        if threading.current_thread() is not self._thread:
            self._thread.join(END)

    def abandon(self) -> None:
        """In a forked child: lets go of the parent's sockets without touching them.

        The child has copies of the parent's connections, and shares its epoll. When it ends, their destructors would
        shut them down, say goodbye on them in the middle of what the parent is sending, and take them out of the
        parent's loop. They get /dev/null to talk to, which is in no epoll.
        """
        self._loop.set_exception_handler(lambda _loop, _context: None)  # of tasks that will never end here
        null = os.open(os.devnull, os.O_RDWR)
        try:
            for key in list((self._selector.get_map() or {}).values()):
                os.dup2(null, key.fd)
        finally:
            os.close(null)

    def _turn(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
            if tasks := asyncio.all_tasks(self._loop):
                for task in tasks:
                    task.cancel()
                self._loop.run_until_complete(asyncio.wait(tasks))
        finally:
            self._loop.close()
