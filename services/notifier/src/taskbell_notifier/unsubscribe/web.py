"""Serves `/u/{token}`, the address of the unsubscribe links in mails.

POST ends the subscription at once, and may be repeated: mail clients send it for one-click unsubscription (RFC 8058),
and so does the button on the page. Its body is ignored, because the token is enough. GET and HEAD change nothing,
because scanners follow links. There is no login, no cookie and no redirect.
"""

from collections.abc import Awaitable, Callable
from typing import Protocol

import structlog
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from taskbell.errors import Unavailable
from taskbell_notifier.mail.words import Localizer
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
    """Stores that a user no longer wants a kind of mail."""

    async def __call__(self, user_id: int, kind: str) -> None:
        """It is committed on return; repeated, it changes nothing.

        Raises:
            Unavailable: it could not be stored now.
        """
        ...


LocaleOf = Callable[[int], Awaitable[str | None]]
"""The locale of a user; None: not known. It may raise Unavailable."""


class UnsubscribePages:
    """Answers requests of the links. Without `locale_of` the browser's language is used."""

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
        """The routes for the HTTP server of this service, or for the one on PUBLIC_PORT."""
        return [
            # Starlette answers HEAD like GET.
            Route("/u/{token}", self.show, methods=["GET"], name="unsubscribe_page"),
            Route("/u/{token}", self.unsubscribe, methods=["POST"], name="unsubscribe"),
        ]

    async def show(self, request: Request) -> Response:
        """Shows the page with the button."""
        subscription = self._unsubscriber.read(request.path_params["token"])
        if subscription is None:
            return self._unknown(request)
        localizer = await self._localizer_of(request, subscription.user_id)
        return self._answer(self._pages.question(localizer, subscription.kind), localizer)

    async def unsubscribe(self, request: Request) -> Response:
        """Ends the subscription, and shows a page that confirms it."""
        subscription = self._unsubscriber.read(request.path_params["token"])
        if subscription is None:
            return self._unknown(request)
        user_id, kind = subscription
        try:
            await self._opt_out(user_id, kind)
        except Unavailable as error:
            self._log.warning("unsubscribe.postponed", user_id=user_id, kind=kind, reason=type(error).__name__)
            localizer = self._localizer(request, None)
            return self._answer(
                self._pages.trouble(localizer), localizer, 503, {"Retry-After": str(RETRY_AFTER_SECONDS)}
            )
        self._log.info("unsubscribe.done", user_id=user_id, kind=kind)
        localizer = await self._localizer_of(request, user_id)
        return self._answer(self._pages.done(localizer, kind), localizer)

    def _unknown(self, request: Request) -> Response:
        localizer = self._localizer(request, None)
        return self._answer(self._pages.unknown(localizer), localizer, 404)

    async def _localizer_of(self, request: Request, user_id: int) -> Localizer:
        if self._locale_of is None:
            return self._localizer(request, None)
        try:
            return self._localizer(request, await self._locale_of(user_id))
        # Without the locale, the page is shown in the browser's language.
        except Unavailable as error:
            self._log.info("unsubscribe.locale_unknown", user_id=user_id, reason=type(error).__name__)
            return self._localizer(request, None)

    def _localizer(self, request: Request, locale: str | None) -> Localizer:
        return self._pages.localizer(locale, request.headers.get("accept-language", ""))

    def _answer(
        self, page: str, localizer: Localizer, status: int = 200, extra: dict[str, str] | None = None
    ) -> Response:
        headers = {**self._headers, "Content-Language": localizer.tag, **(extra or {})}
        return HTMLResponse(page, status_code=status, headers=headers)
