"""An event loop in its own thread, for plain blocking code."""

import asyncio
import os
import selectors
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

Result = TypeVar("Result")

END = 10.0
"""Seconds to wait for the thread's end; closing connections has its own, shorter limit."""


class LoopThread:
    """An event loop that runs in a daemon thread of the process that made it, but not in processes forked from it."""

    def __init__(self, name: str) -> None:
        self._pid = os.getpid()
        self._selector = selectors.DefaultSelector()  # our own, because `abandon` needs all sockets of the loop
        self._loop = asyncio.SelectorEventLoop(self._selector)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def is_inherited(self) -> bool:
        """Whether this process was forked from the one that the thread belongs to: here the loop does not run."""
        return self._pid != os.getpid()

    def submit(self, work: Coroutine[Any, Any, Result]) -> "Future[Result]":
        """Starts this work in the loop. Raises RuntimeError if the loop has ended."""
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError:  # the loop has ended, because the interpreter is ending
            work.close()
            raise

    def end(self, last: Coroutine[Any, Any, None]) -> None:
        """Runs `last`, cancels all other work, and ends the thread; waits for its end unless called in the thread."""
        # Threadsafe: if the work is done already, the callback runs in this thread, and the loop must be woken.
        self.submit(last).add_done_callback(lambda _: self._loop.call_soon_threadsafe(self._loop.stop))
        if threading.current_thread() is not self._thread:
            self._thread.join(END)

    def abandon(self) -> None:
        """Detaches a forked child from the parent's sockets without touching the connections.

        The child has copies of the parent's sockets and shares its epoll. When the child ends, their destructors would
        shut the connections down, write to them in the middle of what the parent is sending, and remove them from the
        parent's epoll. So each copy is replaced by /dev/null, which is in no epoll.
        """
        # Without this, tasks that will never end here would be reported when the child ends.
        self._loop.set_exception_handler(lambda _loop, _context: None)
        null = os.open(os.devnull, os.O_RDWR)
        try:
            for key in list((self._selector.get_map() or {}).values()):
                os.dup2(null, key.fd)
        finally:
            os.close(null)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
            if tasks := asyncio.all_tasks(self._loop):
                for task in tasks:
                    task.cancel()
                self._loop.run_until_complete(asyncio.wait(tasks))
        finally:
            self._loop.close()
