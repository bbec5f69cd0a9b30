"""Serves `/u/{token}`, the address of the unsubscribe links in mails.

POST ends the subscription at once, and may be repeated: mail clients send it for one-click unsubscription (RFC 8058),
and so does the button on the page. Its body is ignored, because the token is enough. GET and HEAD change nothing,
because scanners follow links. There is no login, no cookie and no redirect.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from ipaddress import ip_address, ip_network
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

FAILURES = 20
"""Tokens that are not ours which an address may try in WINDOW seconds; for each more the answer is 429."""

WINDOW = 60.0

PEERS = 10_000
"""Addresses that are remembered."""

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


class Failures:
    """Counts tokens that are not ours, by the network that they come from. A valid token is never counted."""

    def __init__(self) -> None:
        self._counts: OrderedDict[object, tuple[float, int]] = OrderedDict()

    def too_many(self, peer: str) -> bool:
        """Counts one more of that address; returns True if it had more than FAILURES in the last WINDOW seconds."""
        now, network = asyncio.get_running_loop().time(), _network(peer)
        since, count = self._counts.get(network, (now, 0))
        if now - since >= WINDOW:
            since, count = now, 0
        self._counts[network] = (since, count + 1)
        self._counts.move_to_end(network)
        if len(self._counts) > PEERS:
            self._counts.popitem(last=False)
        return count >= FAILURES


def _network(peer: str) -> object:
    """The address; of IPv6 the /64, which one customer has."""
    try:
        address = ip_address(peer)
    except ValueError:
        return peer
    return ip_network((address, 64), strict=False) if address.version == 6 else address


class UnsubscribePages:
    """Answers requests of the links. Without `locale_of` the browser's language is used."""

    def __init__(
        self, unsubscriber: Unsubscriber, pages: Pages, opt_out: OptOut, locale_of: LocaleOf | None = None
    ) -> None:
        self._unsubscriber = unsubscriber
        self._pages = pages
        self._opt_out = opt_out
        self._locale_of = locale_of
        self._failures = Failures()
        self._log = structlog.get_logger()
        self._headers = {**_HEADERS, "Content-Security-Policy": pages.content_security_policy}

    def routes(self) -> list[Route]:
        """The routes for the HTTP server of this service, or for the one on PUBLIC_PORT."""
        return [
            route
            for path in ("/u/{token}", "/u/{token}/")
            # Starlette answers HEAD like GET.
            for route in (Route(path, self.show, methods=["GET"]), Route(path, self.unsubscribe, methods=["POST"]))
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
        page = self._pages.unknown(localizer)
        peer = request.client.host if request.client is not None else ""
        if self._failures.too_many(peer):
            return self._answer(page, localizer, 429, {"Retry-After": str(round(WINDOW))})
        return self._answer(page, localizer, 404)

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
