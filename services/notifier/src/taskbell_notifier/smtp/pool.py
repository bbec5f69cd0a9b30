"""The pool of open SMTP sessions that all senders share."""

import asyncio
import time
from dataclasses import replace
from random import Random

from taskbell.clock import Clock
from taskbell_notifier.smtp.admission import IdleSessions, Places
from taskbell_notifier.smtp.blame import alike
from taskbell_notifier.smtp.breaker import Breaker, BreakerStatus, Observer, Waits
from taskbell_notifier.smtp.envelope import OutgoingMail, mailbox, refused_addresses, refused_sender
from taskbell_notifier.smtp.pace import Pace, Turn
from taskbell_notifier.smtp.replies import CLOSING, OF_THE_MAIL, Loss, Stage, Submission, Verdict, says_too_fast
from taskbell_notifier.smtp.session import SessionOpener, SmtpSession
from taskbell_notifier.smtp.settings import SmtpSettings
from taskbell_notifier.smtp.suspicion import Standing, Suspicions, ThrottledRecipients
from taskbell_notifier.smtp.transaction import BeforeData, check_sender

SERVER_LIMIT_SECONDS = 60.0
"""How long the pool opens no further session after the server refused one."""

THROTTLED_TRIES = 10
"""How often a mail is handed over again at once that was throttled before its message; after that its row waits."""

SEVERAL = 3
"""From so many throttles in a row on, while others are taken, a recipient's throttles no longer slow everybody down."""

QUIT_SECONDS = 1.0
"""How long a closing pool waits for its connections to end after QUIT."""

RECANCEL_SECONDS = 0.05


class SmtpPool:
    """Hands mails over on at most `pool_size` sessions, which are opened when needed and kept open.

    `breaker` has the state of sending, its reason and when it began.
    """

    def __init__(
        self,
        settings: SmtpSettings,
        clock: Clock,
        *,
        observer: Observer | None = None,
        rng: Random | None = None,
        waits: Waits | None = None,
    ) -> None:
        self._settings = settings
        self._observer = observer or Observer()
        self._opener = SessionOpener(settings)
        self._places = Places(settings.pool_size)
        self.pace = Pace(settings.rate_per_second)
        self.suspicions = Suspicions(time.monotonic)
        self._throttled = ThrottledRecipients()
        self._idle = IdleSessions(settings.idle_seconds, self._observer.session_closed)
        self._used: set[SmtpSession] = set()
        self._opening: set[asyncio.Task[SmtpSession | Submission]] = set()
        self._quitting: list[SmtpSession] = []
        self._unused = asyncio.Event()
        self._unused.set()
        self._closing = False
        self._server_limit = settings.pool_size
        self._limit_timer: asyncio.TimerHandle | None = None
        self._refused_sender: str | None = None
        self.breaker = Breaker(
            self._probe,
            sessions=settings.pool_size,
            clock=clock,
            on_change=self._breaker_changed,
            rng=rng or Random(),  # noqa: S311 - spreads probes, keeps no secret
            waits=waits or Waits(),
        )

    @property
    def sessions(self) -> int:
        """Number of sessions that are open now, in use or idle."""
        return len(self._used) + len(self._idle)

    @property
    def busy(self) -> int:
        """Number of sessions on which a mail is being handed over."""
        return len(self._used)

    async def submit(self, mail: OutgoingMail, before_data: BeforeData) -> Submission:
        """Hands one mail over and returns how that ended. The caller who has waited longest gets the next session.

        It raises nothing of its own: what `before_data` raises is returned as the `cause` of NOT_SENT. If the verdict
        does not count as a try (`Verdict.is_try`), the server does not have the message. UNKNOWN is returned only after
        `before_data` has returned True; so may be the other verdicts, if the server or the pool closed the connection
        just then.

        If it is cancelled, it closes its connection and lets the cancellation go on. The mail may have gone out only if
        `before_data` had returned True.
        """
        started = asyncio.get_running_loop().time()
        submission = await self._submit(mail, before_data, started)
        self._report(submission, started)
        return submission

    async def check(self) -> Submission | None:
        """Opens a session and ends it without a mail, for `doctor`; returns None if that works, else the fault."""
        opened = await self._open()
        if isinstance(opened, Submission):
            return opened
        opened.conversation.quit()
        self._observer.session_closed("probe")
        return None

    async def close(self, grace: float) -> int:
        """Accepts no more mails, lets begun transactions finish for `grace` seconds, then closes all sessions.

        Submissions that wait, and those whose session is still being opened, end PAUSED at once. Those that do not
        finish in time end UNKNOWN if the message had begun, else NOT_SENT.

        Returns:
            The number of mails whose outcome is unknown because of that.
        """
        self._closing = True
        self._places.dismiss()
        self.pace.dismiss()
        if self._limit_timer is not None:
            self._limit_timer.cancel()
        await self.breaker.close()
        await self._stop_opening()
        for session in self._idle.clear():
            self._quit(session, "shutdown")
        in_doubt = 0
        try:
            async with asyncio.timeout(grace):
                await self._unused.wait()
        except TimeoutError:
            in_doubt = sum(session.conversation.in_doubt for session in self._used)
            for session in self._used:
                session.conversation.abort()
        await self._wait_closed()
        return in_doubt

    async def _submit(self, mail: OutgoingMail, before_data: BeforeData, started: float) -> Submission:
        refused = refused_addresses(mail)
        # A bad recipient says nothing about the server, so the breaker does not count it; a bad sender pauses sending.
        if refused is not None:
            return refused if refused.verdict is Verdict.FAILED else self._noted(refused, mail)
        throttled = 0
        while (pause := self._pause()) is None:
            if await self._places.enter():
                try:
                    submission = await self._attempt(mail, before_data, started)
                finally:
                    self._places.leave()
                if submission is None:
                    continue
                throttled += submission.verdict is Verdict.THROTTLED
                # After the data marker only the row itself can be taken up again, so it goes back.
                if not 0 < throttled < THROTTLED_TRIES or submission.stage is Stage.MESSAGE:
                    return submission
        return pause

    def suspect(self, words: str, reason: str) -> None:
        """Pauses sending, because several people met these words, some of them in other processes."""
        self.suspicions.suspect(words)
        self.breaker.suspect(reason)

    async def _attempt(self, mail: OutgoingMail, before_data: BeforeData, started: float) -> Submission | None:
        """One try on an idle session, or on a new one if that has ended meanwhile. None: wait again."""
        pause = self._pause()
        if pause is not None:
            return pause
        turn = await self.pace.turn()
        pause = self._pause()
        if pause is not None:
            return pause
        kept = self._idle.take()
        if kept is not None:
            submission = await self._use(kept, mail, before_data, started)
            if not (_was_stale(submission) or kept.may_try_again):
                return self._learned(submission, kept, turn, mail)
        for tries_left in (1, 0):
            opened = await self._open()
            if not isinstance(opened, SmtpSession):
                break
            submission = await self._use(opened, mail, before_data, started)
            if not (opened.may_try_again and tries_left):
                return self._learned(submission, opened, turn, mail)
        assert isinstance(opened, Submission)
        if opened.verdict is Verdict.SERVER_FAULT and opened.code is not None and self.sessions:
            self._limit_to(self.sessions)
            return None
        return self._noted(opened, mail)

    async def _use(
        self, session: SmtpSession, mail: OutgoingMail, before_data: BeforeData, started: float
    ) -> Submission:
        self._used.add(session)
        self._unused.clear()
        try:
            return await session.send(mail, before_data)
        except asyncio.CancelledError:
            verdict = Verdict.UNKNOWN if session.conversation.in_doubt else Verdict.NOT_SENT
            self._report(Submission(verdict, text="cancelled"), started)
            raise
        finally:
            self._used.discard(session)
            if not self._used:
                self._unused.set()
            self._put_back(session)

    def _put_back(self, session: SmtpSession) -> None:
        if not session.conversation.is_open:
            self._observer.session_closed("lost")
        elif self._closing:
            self._quit(session, "shutdown")
        elif session.is_used_up or session.mails >= self._settings.mails_per_session:
            self._quit(session, "worn")
        else:
            self._idle.put(session)

    def _quit(self, session: SmtpSession, why: str) -> None:
        session.conversation.quit()
        self._observer.session_closed(why)
        if self._closing:
            self._quitting.append(session)

    async def _wait_closed(self) -> None:
        try:
            async with asyncio.timeout(QUIT_SECONDS):
                await self._unused.wait()
                for session in self._quitting:
                    await session.conversation.wait_closed()
        except TimeoutError:
            for session in self._quitting:
                session.conversation.abort()

    async def _open(self) -> SmtpSession | Submission:
        """A new session, or why there is none. It is opened in a task of its own, so that `close` can cancel that."""
        if self._closing:
            return _shutting_down()
        loop = asyncio.get_running_loop()
        started = loop.time()
        task = loop.create_task(self._opener.open())
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            task.add_done_callback(_abort)
            task.cancel()
            raise
        if self._closing:
            _abort(task)
            return _shutting_down()
        opened = task.result()
        if isinstance(opened, SmtpSession):
            self._observer.session_opened(loop.time() - started)
        else:
            self._observer.session_refused(opened, loop.time() - started)
        return opened

    async def _stop_opening(self) -> None:
        """Cancels again and again: in Python 3.11 `wait_for`, which aiosmtplib uses, can lose a cancellation."""
        while self._opening:
            for task in self._opening:
                task.cancel()
            await asyncio.wait(set(self._opening), timeout=RECANCEL_SECONDS)

    async def _probe(self) -> Submission | None:
        opened = await self._open()
        if isinstance(opened, Submission):
            return opened
        fault = await self._check_sender(opened)
        if fault is not None:
            self._quit(opened, "probe")
            return fault
        self._refused_sender = None
        self._put_back(opened)
        return None

    async def _check_sender(self, session: SmtpSession) -> Submission | None:
        """If the server had refused the sender, asks it again; returns the fault that remains, None: there is none."""
        if self._refused_sender is None:
            return None
        address = mailbox(self._refused_sender)
        if address is None:
            return refused_sender(self._refused_sender)
        found = await check_sender(session.conversation, address, self._settings.timeout)
        if found is not None and found.loss is not None:
            return Submission(Verdict.SERVER_FAULT, found.stage, text=found.text, loss=found.loss)
        return found if found is not None and found.verdict is Verdict.CONFIGURATION_FAULT else None

    def _pause(self) -> Submission | None:
        if self._closing:
            return _shutting_down()
        status = self.breaker.status
        return None if status.allows_sending else Submission(Verdict.PAUSED, text=status.reason)

    def _learned(self, submission: Submission, session: SmtpSession, turn: Turn, mail: OutgoingMail) -> Submission:
        """Notes how a mail ended, and what that says of the pace."""
        if submission.verdict is Verdict.ACCEPTED:
            self.pace.taken(turn)
            self._throttled.taken(mail.recipient)
        elif submission.verdict is Verdict.THROTTLED and not _is_worn(submission, session):
            alone = self._throttled.refused(mail.recipient)
            if alone < SEVERAL or submission.code == CLOSING or says_too_fast(submission.text):
                self.pace.refused(turn)
            elif alone >= THROTTLED_TRIES:
                # A policy about this recipient, in words of throttling: it counts as a try, so that it ends some day.
                self._throttled.forget(mail.recipient)
                submission = replace(submission, verdict=Verdict.RETRY)
        return self._noted(submission, mail)

    def _weighed(self, submission: Submission, mail: OutgoingMail) -> Submission:
        """The submission, with what a refusal means beside those of others; nobody ends for a suspected one."""
        if submission.verdict is Verdict.ACCEPTED:
            # What was under way when sending paused says nothing of what came after.
            if self.breaker.status.allows_sending:
                self.suspicions.taken()
            return submission
        if submission.verdict not in _WEIGHED or submission.code is None or submission.stage not in _WEIGHED_AT:
            return submission
        words = alike(submission.code, submission.enhanced, submission.text, mail.recipient)
        names_us = submission.verdict is Verdict.CONFIGURATION_FAULT
        standing = self.suspicions.refused(words, mail.recipient.lower(), names_us=names_us)
        if standing is Standing.SUSPECTED and submission.verdict is Verdict.FAILED:
            return replace(submission, verdict=Verdict.REFUSED, suppress=False, standing=standing, words=words)
        return replace(submission, standing=standing, words=words)

    def _noted(self, submission: Submission, mail: OutgoingMail) -> Submission:
        submission = self._weighed(submission, mail)
        if submission.verdict is Verdict.CONFIGURATION_FAULT and submission.stage is Stage.MAIL:
            self._refused_sender = mail.sender
        self.breaker.record(submission)
        self._resize()
        return submission

    def _report(self, submission: Submission, started: float) -> None:
        self._observer.submitted(submission, asyncio.get_running_loop().time() - started)

    def _breaker_changed(self, status: BreakerStatus) -> None:
        self._resize()
        if not status.allows_sending:
            self._places.dismiss()
            self.pace.dismiss()
        self._observer.breaker_changed(status)

    def _limit_to(self, sessions: int) -> None:
        """Opens no more than that many sessions for a while, because the server has refused one more."""
        if self._limit_timer is not None:
            self._limit_timer.cancel()
        self._server_limit = sessions
        self._limit_timer = asyncio.get_running_loop().call_later(SERVER_LIMIT_SECONDS, self._lift_server_limit)
        self._resize()

    def _lift_server_limit(self) -> None:
        self._limit_timer = None
        self._server_limit = self._settings.pool_size
        self._resize()

    def _resize(self) -> None:
        self._places.resize(min(self.breaker.allowance, self._server_limit))


def _shutting_down() -> Submission:
    return Submission(Verdict.PAUSED, text="shutting down")


def _abort(opening: "asyncio.Task[SmtpSession | Submission]") -> None:
    """Closes a session that was opened after its caller had gone."""
    if not opening.cancelled() and opening.exception() is None:
        opened = opening.result()
        if isinstance(opened, SmtpSession):
            opened.conversation.abort()


_WEIGHED = frozenset({Verdict.FAILED, Verdict.REFUSED, Verdict.CONFIGURATION_FAULT})
_WEIGHED_AT = OF_THE_MAIL - {Stage.MAIL}
"""At MAIL there is no recipient yet: what is refused there is never one's fault."""


def _is_worn(submission: Submission, session: SmtpSession) -> bool:
    """True if the server ended a session that had carried mails, without a word about the pace: another goes on."""
    ended = submission.code == CLOSING or session.is_used_up
    return ended and session.mails > 1 and not says_too_fast(submission.text)


def _was_stale(submission: Submission) -> bool:
    """True if an idle session had ended before the mail was begun: nothing of the mail was sent or answered."""
    return submission.stage is Stage.MAIL and (submission.code == CLOSING or submission.loss is Loss.DROPPED)
