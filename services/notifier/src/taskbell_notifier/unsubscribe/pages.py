"""The small web pages behind the unsubscribe links, in the words of the mails they belong to."""

import base64
import hashlib
from typing import NamedTuple

from taskbell.contracts import MailKind
from taskbell_notifier.mail.frame import unsubscribe_label
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

    def question(self, voice: Voice, kind: MailKind) -> str:
        """Asks for the one click that unsubscribes; reading this page changes nothing."""
        text = voice.gettext(
            "Press the button and %(product)s sends you no more of these mails. Other mails are not affected."
        )
        return self._page(voice, unsubscribe_label(voice, kind), text, voice.gettext("Unsubscribe"))

    def done(self, voice: Voice, kind: MailKind) -> str:
        """Says that it has taken effect."""
        return self._page(voice, voice.gettext("You are unsubscribed"), _no_more(voice, kind))

    def unknown(self, voice: Voice) -> str:
        """For a link that is none of ours."""
        text = voice.gettext("It may have been cut off on its way. Please use the link in a more recent mail.")
        return self._page(voice, voice.gettext("This link does not work"), text)

    def trouble(self, voice: Voice) -> str:
        """For when the wish could not be stored."""
        text = voice.gettext("Nothing has been changed yet. Please try again in a few minutes.")
        return self._page(voice, voice.gettext("That did not work"), text)

    def _page(self, voice: Voice, heading: str, text: str, button: str = "") -> str:
        page = _Page(voice.tag, self._product, heading, text % {"product": self._product}, button)
        return self._templates[voice.language].render(page=page)


def _no_more(voice: Voice, kind: MailKind) -> str:
    _ = voice.gettext
    if kind == MailKind.REMINDER:
        return _("%(product)s sends you no more reminders. You can close this page.")
    if kind == MailKind.OVERDUE:
        return _("%(product)s sends you no more overdue alerts. You can close this page.")
    return _("%(product)s sends you no more weekly summaries. You can close this page.")
