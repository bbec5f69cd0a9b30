"""Renders mails. Construct one `Renderer` and keep it: construction inlines, translates and compiles all templates."""

from collections.abc import Callable, Iterator
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple

from jinja2 import Template
from jinja2.runtime import Context

from taskbell.contracts import MailKind
from taskbell_notifier.domain import Overdue, Recipient, Reminder, Selection, Weekly
from taskbell_notifier.mail import clean
from taskbell_notifier.mail.content import overdue_mail, proof_mail, reminder_mail, weekly_mail
from taskbell_notifier.mail.frame import LINE_LENGTH, House, Mail, Scene, scene
from taskbell_notifier.mail.links import Links
from taskbell_notifier.mail.report import ReportFigures, report_mail
from taskbell_notifier.mail.sources import Compiler, html_source, text_source
from taskbell_notifier.mail.words import Languages

PRODUCT = "Taskbell"


class Rendered(NamedTuple):
    """A mail's words. Lines end with "\\n"; the subject is one line without controls."""

    subject: str
    text: str
    html_parts: tuple[str, ...]
    """The HTML as the template yields it: what is constant in one piece after the other, and what is not between them.
    The same constants come with every mail, so that whoever encodes them need do so only once."""

    @property
    def html(self) -> str:
        return "".join(self.html_parts)


class _Templates(NamedTuple):
    text: Template
    html: Template


class Renderer:
    """Turns what there is to say into subject, text part and HTML part, in the recipient's language.

    Args:
        links: the web app's addresses.
        product: the name that mails carry; it may be the app's own.
    """

    def __init__(self, links: Links, product: str = PRODUCT) -> None:
        self.house = House(clean.title(product, clean.NAME_GRAPHEMES) or PRODUCT, links)
        self.languages = Languages()
        self._wrapped = lru_cache(maxsize=256)(_wrapped)  # the long lines are mostly the same sentences
        sources = {kind: (text_source(kind), html_source(kind)) for kind in MailKind}
        self._templates: dict[tuple[str, MailKind], _Templates] = {}
        for language, translations in self.languages.translations.items():
            compiler = Compiler(language, translations)
            for kind, (text, html) in sources.items():
                self._templates[language, kind] = _Templates(compiler.text(text), compiler.html(html))

    def mailing(
        self,
        kind: MailKind,
        recipient: Recipient,
        selection: Selection,
        *,
        occurrence: datetime,
        now: datetime,
        unsubscribe_url: str | None = None,
    ) -> Rendered:
        """A reminder, an overdue alert or a weekly summary of what `domain.SELECT[kind]` selected.

        Args:
            occurrence: T, which names the week; the words about today and now are of `now`.
            unsubscribe_url: None leaves the link out.

        Raises:
            TypeError: where the selection is not of that kind.
        """
        at = self._scene(recipient, now, unsubscribe_url)
        if kind == MailKind.REMINDER and isinstance(selection, Reminder):
            return self._rendered(kind, at, reminder_mail(at, selection))
        if kind == MailKind.OVERDUE and isinstance(selection, Overdue):
            return self._rendered(kind, at, overdue_mail(at, selection))
        if kind == MailKind.WEEKLY and isinstance(selection, Weekly):
            return self._rendered(kind, at, weekly_mail(at, selection, occurrence))
        msg = f"{kind} does not say {type(selection).__name__}"
        raise TypeError(msg)

    def report(self, recipient: Recipient, figures: ReportFigures, *, now: datetime) -> Rendered:
        """The daily report to operators."""
        at = self._scene(recipient, now)
        return self._rendered(MailKind.REPORT, at, report_mail(at, figures))

    def test(self, recipient: Recipient, *, now: datetime) -> Rendered:
        """The mail that proves that mail works."""
        at = self._scene(recipient, now)
        return self._rendered(MailKind.TEST, at, proof_mail(at))

    def _scene(self, recipient: Recipient, now: datetime, unsubscribe_url: str | None = None) -> Scene:
        return scene(self.house, self.languages.voice(recipient.locale), recipient, now, unsubscribe_url)

    def _rendered(self, kind: MailKind, at: Scene, mail: Mail) -> Rendered:
        text, html = self._templates[at.voice.language, kind]
        return Rendered(
            mail.frame.subject, folded("".join(_pieces(text, mail)), self._wrapped), tuple(_pieces(html, mail))
        )


def _pieces(template: Template, mail: Mail) -> Iterator[str]:
    # What Template.generate does, less Jinja's global functions, which no template of ours calls.
    known = {"frame": mail.frame, "mail": mail}
    return template.root_render_func(Context(template.environment, known, template.name, template.blocks))


def folded(text: str, wrapped: Callable[[str], str]) -> str:
    """The text in lines of at most 78 characters; a line that is one URL stays whole."""
    return "\n".join([line if len(line) <= LINE_LENGTH else wrapped(line) for line in text.split("\n")])


def _wrapped(line: str) -> str:
    words = line.lstrip()
    if words.startswith(("https://", "http://")) and " " not in words:
        return line
    indent = line[: len(line) - len(words)]
    return "\n".join([indent + part for part in clean.wrap(words, LINE_LENGTH - len(indent))])
