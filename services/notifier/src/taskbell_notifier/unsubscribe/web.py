"""`/u/{token}`: what the unsubscribe links of the mails lead to.

POST ends the subscription, at once and as often as one likes: mail clients send it for one-click unsubscription
(RFC 8058), and so does the button on the page. Its body is not looked at, the token says everything. GET and HEAD
change nothing, because scanners follow links. There is no login, no cookie and no redirect.
"""

from collections.abc import Awaitable, Callable
from typing import Protocol

import structlog
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from taskbell.errors import Unavailable
from taskbell_notifier.mail.words import Voice
from taskbell_notifier.unsubscribe.pages import Pages
from taskbell_notifier.unsubscribe.tokens import Unsubscriber

RETRY_AFTER_SECONDS = 120

_HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-Robots-Tag": "noindex, nofollow",
}


class OptOut(Protocol):
    """Stores that a person no longer wants a kind of mail."""

    async def __call__(self, user_id: int, kind: str) -> None:
        """Has taken effect when it returns; doing it again changes nothing.

        Raises:
            Unavailable: it could not be stored now.
        """
        ...


LocaleOf = Callable[[int], Awaitable[str | None]]
"""The locale of a user; None: not known. It may raise Unavailable."""


class UnsubscribePages:
    """Answers for the links. `locale_of` absent: the browser's language is used."""

    def __init__(
        self, unsubscriber: Unsubscriber, pages: Pages, opt_out: OptOut, locale_of: LocaleOf | None = None
    ) -> None:
        self._unsubscriber = unsubscriber
        self._pages = pages
        self._opt_out = opt_out
        self._locale_of = locale_of
        self._log = structlog.get_logger()
        self._headers = {**_HEADERS, "Content-Security-Policy": pages.content_security_policy}

    def routes(self) -> list[Route]:
        """For the Starlette application of this service, or of the port that PUBLIC_PORT splits off."""
        return [
            Route("/u/{token}", self.show, methods=["GET"], name="unsubscribe_page"),  # HEAD comes with GET
            Route("/u/{token}", self.unsubscribe, methods=["POST"], name="unsubscribe"),
        ]

    async def show(self, request: Request) -> Response:
        """The page with the one button."""
        subscription = self._unsubscriber.read(request.path_params["token"])
        if subscription is None:
            return self._unknown(request)
        voice = await self._voice(request, subscription.user_id)
        return self._answer(self._pages.question(voice, subscription.kind), voice)

    async def unsubscribe(self, request: Request) -> Response:
        """Ends the subscription, and says so."""
        subscription = self._unsubscriber.read(request.path_params["token"])
        if subscription is None:
            return self._unknown(request)
        user_id, kind = subscription
        try:
            await self._opt_out(user_id, kind)
        except Unavailable as error:
            self._log.warning("unsubscribe.postponed", user_id=user_id, kind=kind, reason=type(error).__name__)
            voice = self._spoken(request, None)
            return self._answer(self._pages.trouble(voice), voice, 503, {"Retry-After": str(RETRY_AFTER_SECONDS)})
        self._log.info("unsubscribe.done", user_id=user_id, kind=kind)
        voice = await self._voice(request, user_id)
        return self._answer(self._pages.done(voice, kind), voice)

    def _unknown(self, request: Request) -> Response:
        voice = self._spoken(request, None)
        return self._answer(self._pages.unknown(voice), voice, 404)

    async def _voice(self, request: Request, user_id: int) -> Voice:
        if self._locale_of is None:
            return self._spoken(request, None)
        try:
            return self._spoken(request, await self._locale_of(user_id))
        except Unavailable as error:  # the page can do without; the click it asks for is what matters
            self._log.info("unsubscribe.locale_unknown", user_id=user_id, reason=type(error).__name__)
            return self._spoken(request, None)

    def _spoken(self, request: Request, locale: str | None) -> Voice:
        return self._pages.voice(locale, request.headers.get("accept-language", ""))

    def _answer(self, page: str, voice: Voice, status: int = 200, extra: dict[str, str] | None = None) -> Response:
        headers = {**self._headers, "Content-Language": voice.tag, **(extra or {})}
        return HTMLResponse(page, status_code=status, headers=headers)
