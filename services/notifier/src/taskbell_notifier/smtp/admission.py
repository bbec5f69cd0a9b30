"""Admission to the mail server: a fair queue for a changing number of places, and the idle sessions."""

import asyncio
from collections import deque
from collections.abc import Callable

from taskbell_notifier.smtp.session import SmtpSession


class Places:
    """A limited number of places; whoever has waited longest gets the next one."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._inside = 0
        self._waiting: deque[asyncio.Future[bool]] = deque()

    async def enter(self) -> bool:
        """Waits for a place and takes it. Returns False, without a place, if `dismiss` was called meanwhile."""
        # If there is a free place, nobody waits for one: `_admit` would have given it to them.
        if self._inside < self._places:
            self._inside += 1
            return True
        turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            return await turn
        except asyncio.CancelledError:
            # The place had just been given to us.
            if not turn.cancelled() and turn.result():
                self.leave()
            raise

    def leave(self) -> None:
        """Gives a place back."""
        self._inside -= 1
        self._admit()

    def resize(self, places: int) -> None:
        """Sets the number of places; those inside stay."""
        self._places = places
        self._admit()

    def dismiss(self) -> None:
        """Ends every wait for a place; `enter` returns False."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(False)

    def _admit(self) -> None:
        while self._waiting and self._inside < self._places:
            turn = self._waiting.popleft()
            if not turn.done():
                self._inside += 1
                turn.set_result(True)


class IdleSessions:
    """Open sessions without a mail. The last one put is taken first, so that those not needed time out."""

    def __init__(self, idle_seconds: float, on_closed: Callable[[str], None]) -> None:
        """Closes sessions after `idle_seconds`; calls `on_closed` with "idle" or "lost" for each."""
        self._idle_seconds = idle_seconds
        self._on_closed = on_closed
        self._sessions: deque[SmtpSession] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._sessions)

    def put(self, session: SmtpSession) -> None:
        loop = asyncio.get_running_loop()
        session.idle_since = loop.time()
        self._sessions.append(session)
        if self._timer is None:
            self._timer = loop.call_later(self._idle_seconds, self._expire)

    def take(self) -> SmtpSession | None:
        """A session that is open and on which the server has sent nothing since; None: there is none."""
        while self._sessions:
            session = self._sessions.pop()
            if session.conversation.is_quiet:
                return session
            session.conversation.abort()
            self._on_closed("lost")
        return None

    def clear(self) -> list[SmtpSession]:
        """Removes and returns all sessions, open or not."""
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
            if oldest.conversation.is_quiet and (rest := oldest.idle_since + self._idle_seconds - loop.time()) > 0:
                self._timer = loop.call_later(rest, self._expire)
                return
            self._sessions.popleft()
            self._on_closed("idle" if oldest.conversation.is_quiet else "lost")
            oldest.conversation.quit()
