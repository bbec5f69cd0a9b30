"""Where open sessions wait for their next mail."""

import asyncio
from collections import deque
from collections.abc import Callable

from taskbell_notifier.smtp.session import Session


class Shelf:
    """Open sessions without a mail. The last one put is the first taken; those not needed grow old."""

    def __init__(self, idle_seconds: float, on_closed: Callable[[str], None]) -> None:
        """Closes sessions after that many idle seconds; `on_closed` is told "idle" or "lost" of each."""
        self._idle_seconds = idle_seconds
        self._on_closed = on_closed
        self._sessions: deque[Session] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._sessions)

    def put(self, session: Session) -> None:
        loop = asyncio.get_running_loop()
        session.idle_since = loop.time()
        self._sessions.append(session)
        if self._timer is None:
            self._timer = loop.call_later(self._idle_seconds, self._expire)

    def take(self) -> Session | None:
        """A session that is open and on which the server has said nothing since; None: there is none."""
        while self._sessions:
            session = self._sessions.pop()
            if session.line.is_quiet:
                return session
            session.line.abort()
            self._on_closed("lost")
        return None

    def clear(self) -> list[Session]:
        """Takes all sessions off, open or not."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        sessions = list(self._sessions)
        self._sessions.clear()
        return sessions

    def _expire(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        while self._sessions:
            oldest = self._sessions[0]
            if oldest.line.is_quiet and (rest := oldest.idle_since + self._idle_seconds - loop.time()) > 0:
                self._timer = loop.call_later(rest, self._expire)
                return
            self._sessions.popleft()
            self._on_closed("idle" if oldest.line.is_quiet else "lost")
            oldest.line.bid_farewell()
