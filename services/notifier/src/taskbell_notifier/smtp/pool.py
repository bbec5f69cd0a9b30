"""Kept-open SMTP sessions, shared by everybody who has a mail to hand over."""

import asyncio
from random import Random

from taskbell.clock import Clock
from taskbell_notifier.smtp.admission import IdleSessions, Places, RateLimit
from taskbell_notifier.smtp.breaker import Breaker, BreakerStatus, Observer, Waits
from taskbell_notifier.smtp.envelope import OutgoingMail, mailbox, refused_sender, refused_unseen
from taskbell_notifier.smtp.replies import CLOSING, Loss, Stage, Submission, Verdict
from taskbell_notifier.smtp.session import SessionOpener, SmtpSession
from taskbell_notifier.smtp.settings import SmtpSettings
from taskbell_notifier.smtp.transaction import BeforeData, check_sender

CROWDED_SECONDS = 60.0
"""How long the pool keeps to the sessions it has after the server refused to open one more."""

FAREWELL_SECONDS = 1.0
"""How long a closing pool waits for its connections to end once nothing more is said on them."""

RECANCEL_SECONDS = 0.05


class SmtpPool:
    """Hands mails over on at most `pool_size` sessions, which are opened when needed and kept.

    `breaker` shows whether sending is paused, why and since when, and can be waited for.
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
        self._gate = Places(settings.pool_size)
        self._pace = RateLimit(settings.rate_per_second)
        self._shelf = IdleSessions(settings.idle_seconds, self._observer.session_closed)
        self._used: set[SmtpSession] = set()
        self._opening: set[asyncio.Task[SmtpSession | Submission]] = set()
        self._leaving: list[SmtpSession] = []
        self._unused = asyncio.Event()
        self._unused.set()
        self._closing = False
        self._crowd = settings.pool_size
        self._crowd_timer: asyncio.TimerHandle | None = None
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
        """Sessions that are open now, in use or waiting."""
        return len(self._used) + len(self._shelf)

    @property
    def busy(self) -> int:
        """Sessions on which a mail is being handed over."""
        return len(self._used)

    async def submit(self, envelope: OutgoingMail, before_data: BeforeData) -> Submission:
        """Hands one mail over and says how that ended. Who waits longest for a session gets the next one.

        Raises nothing of its own: what `before_data` raises comes back as the `cause` of NOT_SENT. With a verdict
        that is no try (`Verdict.is_try`), not a byte of the message was sent. UNKNOWN comes only after `before_data`
        has returned True; the others may come after that too, where the server or the pool left just then.

        Cancelled, it closes its connection and lets the cancellation go on. The mail may have gone out only if
        `before_data` had returned True.
        """
        started = asyncio.get_running_loop().time()
        submission = await self._submit(envelope, before_data, started)
        self._report(submission, started)
        return submission

    async def check(self) -> Submission | None:
        """Opens a session and ends it, for `doctor`: None when that works, else the fault. No mail."""
        opened = await self._open()
        if isinstance(opened, Submission):
            return opened
        opened.line.bid_farewell()
        self._observer.session_closed("probe")
        return None

    async def close(self, grace: float) -> int:
        """Takes nothing new, lets begun transactions finish for `grace` seconds, then leaves.

        Submissions that wait, and those whose session is still being opened, end PAUSED at once. Those that
        the grace did not suffice for end UNKNOWN where the message had begun, else NOT_SENT.

        Returns:
            How many mails were left in doubt.
        """
        self._closing = True
        self._gate.dismiss()
        self._pace.dismiss()
        if self._crowd_timer is not None:
            self._crowd_timer.cancel()
        await self.breaker.close()
        await self._stop_opening()
        for session in self._shelf.clear():
            self._dismiss(session, "shutdown")
        in_doubt = 0
        try:
            async with asyncio.timeout(grace):
                await self._unused.wait()
        except TimeoutError:
            in_doubt = sum(session.line.in_doubt for session in self._used)
            for session in self._used:
                session.line.abort()
        await self._watch_them_leave()
        return in_doubt

    async def _submit(self, envelope: OutgoingMail, before_data: BeforeData, started: float) -> Submission:
        unseen = refused_unseen(envelope)
        if unseen is not None:  # a bad recipient says nothing about the server, a bad sender pauses sending
            return unseen if unseen.verdict is Verdict.FAILED else self._noted(unseen, envelope)
        while (pause := self._pause()) is None:
            if await self._gate.enter():
                try:
                    submission = await self._attempt(envelope, before_data, started)
                finally:
                    self._gate.leave()
                if submission is not None:
                    return submission
        return pause

    async def _attempt(self, envelope: OutgoingMail, before_data: BeforeData, started: float) -> Submission | None:
        """One try on a kept session, or on a new one where that turns out to be gone. None: wait again."""
        if self._pause() is None:
            await self._pace.turn()
        pause = self._pause()
        if pause is not None:
            return pause
        kept = self._shelf.take()
        if kept is not None:
            submission = await self._use(kept, envelope, before_data, started)
            if not _was_stale(submission):
                return self._noted(submission, envelope)
        opened = await self._open()
        if isinstance(opened, SmtpSession):
            return self._noted(await self._use(opened, envelope, before_data, started), envelope)
        if opened.verdict is Verdict.SERVER_FAULT and opened.code is not None and self.sessions:
            self._keep_to(self.sessions)
            return None
        return self._noted(opened, envelope)

    async def _use(
        self, session: SmtpSession, envelope: OutgoingMail, before_data: BeforeData, started: float
    ) -> Submission:
        self._used.add(session)
        self._unused.clear()
        try:
            return await session.send(envelope, before_data)
        except asyncio.CancelledError:
            verdict = Verdict.UNKNOWN if session.line.in_doubt else Verdict.NOT_SENT
            self._report(Submission(verdict, text="cancelled"), started)
            raise
        finally:
            self._used.discard(session)
            if not self._used:
                self._unused.set()
            self._put_back(session)

    def _put_back(self, session: SmtpSession) -> None:
        if not session.line.is_open:
            self._observer.session_closed("lost")
        elif self._closing:
            self._dismiss(session, "shutdown")
        elif session.mails >= self._settings.mails_per_session:
            self._dismiss(session, "worn")
        else:
            self._shelf.put(session)

    def _dismiss(self, session: SmtpSession, why: str) -> None:
        session.line.bid_farewell()
        self._observer.session_closed(why)
        if self._closing:
            self._leaving.append(session)

    async def _watch_them_leave(self) -> None:
        try:
            async with asyncio.timeout(FAREWELL_SECONDS):
                await self._unused.wait()
                for session in self._leaving:
                    await session.line.wait_closed()
        except TimeoutError:
            for session in self._leaving:
                session.line.abort()

    async def _open(self) -> SmtpSession | Submission:
        """A new session, or why there is none. In a task of its own, so that `close` can end it for us."""
        if self._closing:
            return _closing()
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
            return _closing()
        opened = task.result()
        if isinstance(opened, SmtpSession):
            self._observer.session_opened(loop.time() - started)
        else:
            self._observer.session_refused(opened, loop.time() - started)
        return opened

    async def _stop_opening(self) -> None:
        """Cancels until it is so: in Python 3.11 `wait_for`, which aiosmtplib uses, can lose a cancellation."""
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
            self._dismiss(opened, "probe")
            return fault
        self._refused_sender = None
        self._put_back(opened)
        return None

    async def _check_sender(self, session: SmtpSession) -> Submission | None:
        """Where it was the sender that the server refused, only its consent ends the pause."""
        if self._refused_sender is None:
            return None
        address = mailbox(self._refused_sender)
        if address is None:
            return refused_sender(self._refused_sender)
        found = await check_sender(session.line, address, self._settings.timeout)
        if found is not None and found.loss is not None:
            return Submission(Verdict.SERVER_FAULT, found.stage, text=found.text, loss=found.loss)
        return found if found is not None and found.verdict is Verdict.CONFIGURATION_FAULT else None

    def _pause(self) -> Submission | None:
        if self._closing:
            return _closing()
        status = self.breaker.status
        return None if status.allows_sending else Submission(Verdict.PAUSED, text=status.reason)

    def _noted(self, submission: Submission, envelope: OutgoingMail) -> Submission:
        if submission.verdict is Verdict.CONFIGURATION_FAULT and submission.stage is Stage.MAIL:
            self._refused_sender = envelope.sender
        self.breaker.record(submission)
        self._resize()
        return submission

    def _report(self, submission: Submission, started: float) -> None:
        self._observer.submitted(submission, asyncio.get_running_loop().time() - started)

    def _breaker_changed(self, status: BreakerStatus) -> None:
        self._resize()
        if not status.allows_sending:
            self._gate.dismiss()
            self._pace.dismiss()
        self._observer.breaker_changed(status)

    def _keep_to(self, sessions: int) -> None:
        """The server takes no more than that many at once: rather wait for one of those than knock again."""
        if self._crowd_timer is not None:
            self._crowd_timer.cancel()
        self._crowd = sessions
        self._crowd_timer = asyncio.get_running_loop().call_later(CROWDED_SECONDS, self._keep_to_all)
        self._resize()

    def _keep_to_all(self) -> None:
        self._crowd_timer = None
        self._crowd = self._settings.pool_size
        self._resize()

    def _resize(self) -> None:
        self._gate.resize(min(self.breaker.allowance, self._crowd))


def _closing() -> Submission:
    return Submission(Verdict.PAUSED, text="shutting down")


def _abort(opening: "asyncio.Task[SmtpSession | Submission]") -> None:
    """What is opened after its caller has gone is closed again."""
    if not opening.cancelled() and opening.exception() is None:
        opened = opening.result()
        if isinstance(opened, SmtpSession):
            opened.line.abort()


def _was_stale(submission: Submission) -> bool:
    """Did a kept session end just as the mail was begun? Then nothing of it was sent, nor answered."""
    return submission.stage is Stage.MAIL and (submission.code == CLOSING or submission.loss is Loss.DROPPED)
