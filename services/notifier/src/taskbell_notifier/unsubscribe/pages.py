"""The small web pages behind the unsubscribe links, in the words of the mails they belong to."""

import base64
import hashlib
from typing import NamedTuple

from taskbell_notifier.mail.sources import Compiler, assembled, read
from taskbell_notifier.mail.words import Languages, Voice


class _Page(NamedTuple):
    lang: str
    product: str
    heading: str
    text: str
    button: str


class Pages:
    """Renders the pages. They run no script, load nothing and show nobody's address."""

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
        """What a browser is told to allow: our own style sheet and sending the form back to us."""

    def voice(self, locale: str | None, accept_language: str = "") -> Voice:
        """The recipient's voice, or where that is not known the first one of ours that the browser asks for."""
        if locale is not None:
            return self._languages.voice(locale)
        for tag in accept_language[:200].split(","):
            voice = self._languages.voice(tag.split(";")[0])
            if voice.language == tag.strip()[:2].lower():
                return voice
        return self._languages.voice(None)

    def question(self, voice: Voice, kind: str) -> str:
        """Asks for the one click that unsubscribes; reading this page changes nothing."""
        text = voice.gettext(
            "Press the button and %(product)s sends you no more of these mails. Other mails are not affected."
        )
        label, button = voice.gettext("Unsubscribe"), voice.gettext("Unsubscribe")
        if kind in voice.kinds:  # else the package that brought it was removed
            label = voice.kinds[kind].unsubscribe
        return self._page(voice, label, text, button)

    def done(self, voice: Voice, kind: str) -> str:
        """Says that it has taken effect."""
        text = voice.gettext("%(product)s sends you no more of these mails. You can close this page.")
        if kind in voice.kinds:
            text = voice.kinds[kind].unsubscribed
        return self._page(voice, voice.gettext("You are unsubscribed"), text)

    def unknown(self, voice: Voice) -> str:
        """For a link that is not one of ours."""
        text = voice.gettext("It may have been cut off on its way. Please use the link in a more recent mail.")
        return self._page(voice, voice.gettext("This link does not work"), text)

    def trouble(self, voice: Voice) -> str:
        """For when the wish could not be stored."""
        text = voice.gettext("Nothing has been changed yet. Please try again in a few minutes.")
        return self._page(voice, voice.gettext("That did not work"), text)

    def _page(self, voice: Voice, heading: str, text: str, button: str = "") -> str:
        page = _Page(voice.tag, self._product, heading, text % {"product": self._product}, button)
        return self._templates[voice.language].render(page=page)
