"""The client for plain blocking code in threads: Flask, Django, scripts."""

import os
import threading
import weakref
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError
from types import TracebackType
from typing import Any, Self, TypeVar
from uuid import uuid4

from taskbell.client.asynchronous import NAME, TIMEOUT, AsyncClient, check_url
from taskbell.client.thread import LoopThread
from taskbell.contracts import CommandOutcome, Contract
from taskbell.errors import BrokerUnavailable

Result = TypeVar("Result")

MARGIN = 2.0
"""Seconds after a call's time limit until the waiting thread gives up, should the background thread hang."""


class Client:
    """Publishes events and commands from any thread. One client a process is enough: make it where you make the app.

    Connects at its first use in each process, so an app may be loaded before its server forks; and again after the
    connection was lost. Works in its own event loop, in one background thread. Closes itself when the interpreter ends.

    Args:
        broker_url: `amqp://user:password@host:5672/vhost`, or amqps://.
        timeout: seconds that a call may take, connecting included, unless it is given its own.
        name: of the connections, in RabbitMQ's management UI.

    Raises:
        ValueError: the URL is not an AMQP URL.
    """

    def __init__(self, broker_url: str, *, timeout: float = TIMEOUT, name: str = NAME) -> None:
        check_url(broker_url)
        self.timeout = timeout
        self._url = broker_url
        self._name = name
        self._lock = threading.Lock()
        self._engine: _Engine | None = None
        self._inherited: list[_Engine] = []
        self._end: weakref.finalize[..., Client] | None = None
        self._watches_forks = not hasattr(os, "register_at_fork")

    def publish(
        self,
        body: Contract,
        *,
        message_id: str | None = None,
        correlation_id: str | None = None,
        traceparent: str | None = None,
        timeout: float | None = None,
    ) -> str:
        """Publishes an event or a command, and returns its message_id once RabbitMQ has confirmed it.

        As `AsyncClient.publish`, with the same arguments and errors.
        """
        limit = self.timeout if timeout is None else timeout
        known = str(uuid4()) if message_id is None else message_id
        return self._run(
            lambda client: client.publish(
                body, message_id=known, correlation_id=correlation_id, traceparent=traceparent, timeout=limit
            ),
            known,
            limit,
        )

    def request(
        self,
        command: Contract,
        *,
        timeout: float | None = None,
        message_id: str | None = None,
        correlation_id: str | None = None,
        traceparent: str | None = None,
    ) -> CommandOutcome:
        """Publishes a command and returns how it ended, also if it was rejected or failed.

        As `AsyncClient.request`, with the same arguments and errors.
        """
        limit = self.timeout if timeout is None else timeout
        known = str(uuid4()) if message_id is None else message_id
        return self._run(
            lambda client: client.request(
                command, timeout=limit, message_id=known, correlation_id=correlation_id, traceparent=traceparent
            ),
            known,
            limit,
        )

    def close(self) -> None:
        """Closes the connections and ends the background thread; calls under way fail. A later call starts anew."""
        with self._lock:
            end, self._end, self._engine = self._end, None, None
        if end is not None:
            end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, call: Callable[[AsyncClient], Coroutine[Any, Any, Result]], message_id: str, limit: float) -> Result:
        with self._lock:
            engine = self._started()
            future = engine.thread.submit(call(engine.client))
        try:
            return future.result(limit + MARGIN)
        except (TimeoutError, CancelledError):
            msg = "the client was closed, or its background thread does not answer"
            error = BrokerUnavailable(msg)
            error.message_id = message_id
            raise error from None
        finally:
            future.cancel()  # whatever ended the wait, such as the web server's own time limit

    def _started(self) -> "_Engine":
        if self._engine is not None and self._engine.thread.is_inherited:
            self._drop_inherited()  # forked by other code than Python's, so that no hook was called
        if self._engine is None:
            if not self._watches_forks:
                this = weakref.ref(self)
                os.register_at_fork(after_in_child=lambda: _after_fork(this()))
                self._watches_forks = True
            self._engine = _Engine(self._url, self.timeout, self._name)
            self._end = weakref.finalize(self, self._engine.end)
        return self._engine

    def _drop_inherited(self) -> None:
        """Drops, in a forked child, the parent's thread, which does not run here, and the parent's connections."""
        self._lock = threading.Lock()  # a thread of the parent may have held it during the fork
        engine, self._engine = self._engine, None
        if self._end is not None:
            self._end.detach()
            self._end = None
        if engine is not None:
            engine.thread.abandon()
            self._inherited.append(engine)  # kept for ever: a destructor would close the parent's connections


def _after_fork(client: Client | None) -> None:
    if client is not None:
        client._drop_inherited()


class _Engine:
    """An AsyncClient and the thread that it works in."""

    def __init__(self, url: str, timeout: float, name: str) -> None:
        self.thread = LoopThread(name)
        self.client = AsyncClient(url, timeout=timeout, name=name)

    def end(self) -> None:
        """Closes connections and thread. Called once: by `close()`, or at the end of the client or the interpreter."""
        if not self.thread.is_inherited:
            self.thread.end(self.client.close())
