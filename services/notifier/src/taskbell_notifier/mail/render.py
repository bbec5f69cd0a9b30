"""Renders mails. Construct one `Renderer` in a process: construction inlines, translates and compiles all templates."""

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple

from jinja2 import Template

from taskbell.kinds import Kind, Recipient
from taskbell_notifier.mail import clean, tasks
from taskbell_notifier.mail.context import Installation, WritingContext
from taskbell_notifier.mail.frame import LINE_LENGTH, frame
from taskbell_notifier.mail.links import Links
from taskbell_notifier.mail.sources import Compiler, html_source, text_source
from taskbell_notifier.mail.words import Languages

PRODUCT = "Taskbell"


class Rendered(NamedTuple):
    """A rendered mail. Lines end with "\\n"; the subject is one line without controls."""

    subject: str
    text: str
    html_parts: tuple[str, ...]
    """The HTML as the template yields it, constant pieces and values in turn. The constant pieces are the same in every
    mail, so that they need to be encoded only once."""

    @property
    def html(self) -> str:
        return "".join(self.html_parts)


class _Templates(NamedTuple):
    text: Template
    html: Template


class Renderer:
    """Renders the content of a mail as subject, text part and HTML part, in the recipient's language.

    Args:
        kinds: the kinds of mail that it can render, by name.
        links: the web app's addresses.
        product: the product's name in mails; it may be the web app's name.

    Raises:
        SettingsError: a kind's templates are missing or cannot be read.
    """

    def __init__(self, kinds: Mapping[str, Kind], links: Links, product: str = PRODUCT) -> None:
        self.installation = Installation(clean.title(product, clean.NAME_GRAPHEMES) or PRODUCT, links, tasks.entry)
        self.languages = Languages(tuple(kinds.values()), self.installation.product)
        # Most of the long lines are the same sentences.
        self._wrapped = lru_cache(maxsize=256)(_wrapped)
        sources = {kind.name: (text_source(kind), html_source(kind)) for kind in kinds.values()}
        self._templates: dict[tuple[str, str], _Templates] = {}
        for language, translations in self.languages.translations.items():
            compiler = Compiler(language, translations)
            for name, (text, html) in sources.items():
                self._templates[language, name] = _Templates(compiler.text(text), compiler.html(html))

    def render(
        self,
        kind: Kind,
        recipient: Recipient,
        content: object,
        *,
        at: datetime,
        now: datetime,
        unsubscribe_url: str | None = None,
    ) -> Rendered:
        """Renders one mail.

        Args:
            content: what the kind's `what` gives for this recipient.
            at: T, which decides the week.
            now: the moment that words such as "today" are about.
            unsubscribe_url: the address of the unsubscribe link; None: the mail has no such link.
        """
        localizer = self.languages.localizer(recipient.locale)
        local = now.astimezone(recipient.zone)
        context = WritingContext(self.installation, localizer, recipient, at, now, local, unsubscribe_url)
        text = kind.compose(context, content)
        framed = frame(context, localizer.kinds[kind.name], text)
        plain, html = self._templates[localizer.language, kind.name]
        return Rendered(
            text.subject,
            folded(plain.render(frame=framed, mail=text.props), self._wrapped),
            tuple(html.generate(frame=framed, mail=text.props)),
        )


def folded(text: str, wrapped: Callable[[str], str]) -> str:
    """The text in lines of at most 78 characters; a line that is one URL stays whole."""
    return "\n".join([line if len(line) <= LINE_LENGTH else wrapped(line) for line in text.split("\n")])


def _wrapped(line: str) -> str:
    words = line.lstrip()
    if words.startswith(("https://", "http://")) and " " not in words:
        return line
    indent = line[: len(line) - len(words)]
    return "\n".join([indent + part for part in clean.wrap(words, LINE_LENGTH - len(indent))])
