"""Renders the web pages of the unsubscribe links, in the language of the mails."""

import base64
import hashlib
from typing import NamedTuple

from taskbell_notifier.mail.sources import Compiler, assembled, read
from taskbell_notifier.mail.words import Languages, Localizer


class _Page(NamedTuple):
    lang: str
    product: str
    heading: str
    text: str
    button: str


class Pages:
    """Renders the pages. They run no script, load nothing, and show no address of a user."""

    def __init__(self, languages: Languages, product: str) -> None:
        style = read("page.css").rstrip()
        source = assembled("page.html.j2", {"style": style})
        self._templates = {
            language: Compiler(language, translations).html(source)
            for language, translations in languages.translations.items()
        }
        self._languages = languages
        self._product = product
        digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        self.content_security_policy = (
            f"default-src 'none'; style-src 'sha256-{digest}'; form-action 'self'; base-uri 'none'; "
            "frame-ancestors 'none'"
        )
        """Allows the page its own style sheet and sending its form to us, and nothing else."""

    def localizer(self, locale: str | None, accept_language: str = "") -> Localizer:
        """The localizer of the recipient's locale; if that is None, of the browser's first language that we have."""
        if locale is not None:
            return self._languages.localizer(locale)
        for tag in accept_language[:200].split(","):
            localizer = self._languages.localizer(tag.split(";")[0])
            if localizer.language == tag.strip()[:2].lower():
                return localizer
        return self._languages.localizer(None)

    def question(self, localizer: Localizer, kind: str) -> str:
        """The page with the button that unsubscribes; reading the page changes nothing."""
        text = localizer.gettext(
            "Press the button and %(product)s sends you no more of these mails. Other mails are not affected."
        )
        label, button = localizer.gettext("Unsubscribe"), localizer.gettext("Unsubscribe")
        # It is missing if its package was removed.
        if kind in localizer.kinds:
            label = localizer.kinds[kind].unsubscribe
        return self._page(localizer, label, text, button)

    def done(self, localizer: Localizer, kind: str) -> str:
        """The page which says that the user is unsubscribed."""
        text = localizer.gettext("%(product)s sends you no more of these mails. You can close this page.")
        if kind in localizer.kinds:
            text = localizer.kinds[kind].unsubscribed
        return self._page(localizer, localizer.gettext("You are unsubscribed"), text)

    def unknown(self, localizer: Localizer) -> str:
        """The page for a link that is not one of ours."""
        text = localizer.gettext("It may have been cut off on its way. Please use the link in a more recent mail.")
        return self._page(localizer, localizer.gettext("This link does not work"), text)

    def trouble(self, localizer: Localizer) -> str:
        """The page which says that the choice could not be stored now."""
        text = localizer.gettext("Nothing has been changed yet. Please try again in a few minutes.")
        return self._page(localizer, localizer.gettext("That did not work"), text)

    def _page(self, localizer: Localizer, heading: str, text: str, button: str = "") -> str:
        page = _Page(localizer.tag, self._product, heading, text % {"product": self._product}, button)
        return self._templates[localizer.language].render(page=page)
