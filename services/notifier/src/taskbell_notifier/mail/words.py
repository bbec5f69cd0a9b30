"""The words of mails: gettext catalogues, and for each locale its words and dates together.

English is the source language, and is used if a language or a word is missing. The catalogues are compiled when
`Languages` is constructed, so there are only the .po files to maintain.
"""

import gettext
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from importlib.resources.abc import Traversable

from babel import Locale, UnknownLocaleError
from babel.messages.mofile import write_mo
from babel.messages.pofile import PoFileError, read_po

from taskbell.errors import SettingsError
from taskbell.kinds import Kind, KindWords
from taskbell_notifier.mail import clean
from taskbell_notifier.mail.dates import Dates
from taskbell_notifier.mail.folders import folder_of

SOURCE_LANGUAGE = "en"
TRANSLATED = ("de", "es", "fr")
DOMAIN = "taskbell"

_FORMATS = {"en": "en_150"}
"""English without a region has day before month and a 24-hour clock; en-US, en-GB and others keep their own."""

_LOCALE_NAME = re.compile(r"[A-Za-z]{2,3}(?:_[A-Za-z0-9]{1,8}){0,3}\Z")


def catalogue(language: str, packages: Iterable[str] = ()) -> gettext.NullTranslations:
    """The translations into that language; for English, the words as they stand in the source.

    Args:
        packages: their catalogues are used for words that ours lack.

    Raises:
        SettingsError: a catalogue cannot be read.
    """
    translations = gettext.NullTranslations()
    if language == SOURCE_LANGUAGE:
        return translations
    for place in (__package__, *packages):
        folder = folder_of(place, "locales") / language / "LC_MESSAGES"
        for source in sorted(_po_files(folder), key=lambda it: it.name):
            translations.add_fallback(_compiled(source, language))
    return translations


def _po_files(folder: Traversable) -> list[Traversable]:
    return [it for it in folder.iterdir() if it.name.endswith(".po")] if folder.is_dir() else []


def _compiled(source: Traversable, language: str) -> gettext.NullTranslations:
    try:
        with source.open("rb") as opened:
            words = read_po(opened, locale=language, domain=DOMAIN, abort_invalid=True)
    except (PoFileError, ValueError) as error:
        msg = f"{source}: {error}"
        raise SettingsError(msg) from error
    compiled = io.BytesIO()
    write_mo(compiled, words)
    compiled.seek(0)
    return gettext.GNUTranslations(compiled)


class Localizer:
    """The words, plurals and dates of one locale."""

    def __init__(
        self,
        language: str,
        locale: Locale,
        translations: gettext.NullTranslations,
        kinds: Iterable[Kind] = (),
        product: str = "",
    ) -> None:
        self.language = language
        self.locale = locale
        self.tag = str(locale).replace("_", "-") if str(locale) not in _FORMATS.values() else language
        """For `lang` attributes, BCP 47."""
        self.dates = Dates(locale)
        self.gettext: Callable[[str], str] = lru_cache(maxsize=512)(translations.gettext)
        self.ngettext: Callable[[str, str, int], str] = lru_cache(maxsize=512)(translations.ngettext)
        self.days_overdue = lru_cache(maxsize=512)(self._days_overdue)
        self.meta = lru_cache(maxsize=256)(self._meta)
        self._statuses = self._known_statuses()
        self._priorities = self._known_priorities()
        self._outcomes = self._known_outcomes()
        self.kinds: Mapping[str, KindWords] = {
            kind.name: KindWords(*(words.replace("%(product)s", product) for words in kind.words(self.gettext)))
            for kind in kinds
        }
        """What each kind of mail is called in this language, by its name."""

    def plural(self, one: str, many: str, count: int, **values: object) -> str:
        """The form of the sentence for that count; `%(n)s` stands for the count."""
        return self.ngettext(one, many, count) % {"n": self.dates.number(count), **values}

    def _days_overdue(self, days: int) -> str:
        if days == 0:
            return self.gettext("due earlier today")
        return self.plural("%(n)s day overdue", "%(n)s days overdue", days)

    def status(self, status: str) -> str:
        """The status in words; an unknown one as it is."""
        return self._statuses.get(status) or clean.title(status, clean.WORD_GRAPHEMES)

    def priority(self, priority: str) -> str:
        """The priority in words; an unknown one as it is."""
        return self._priorities.get(priority) or clean.title(priority, clean.WORD_GRAPHEMES)

    def outcome(self, outcome: str) -> str:
        """The outcome of mails in words; an unknown one as it is."""
        return self._outcomes.get(outcome) or clean.title(outcome, clean.WORD_GRAPHEMES)

    def kind(self, kind: str) -> str:
        """The title of that kind of mail; its name if it is not installed."""
        known = self.kinds.get(kind)
        return clean.title(kind, clean.WORD_GRAPHEMES) if known is None else known.title

    def _meta(self, priority: str | None, status: str) -> str:
        """ "High priority · In progress"."""
        return f"{self.priority(priority)} · {self.status(status)}" if priority else self.status(status)

    def _known_statuses(self) -> Mapping[str, str]:
        _ = self.gettext
        return {
            "pending": _("Pending"),
            "in_progress": _("In progress"),
            "done": _("Done"),
            "cancelled": _("Cancelled"),
        }

    def _known_priorities(self) -> Mapping[str, str]:
        _ = self.gettext
        return {
            "low": _("Low priority"),
            "medium": _("Medium priority"),
            "high": _("High priority"),
            "urgent": _("Urgent"),
        }

    def _known_outcomes(self) -> Mapping[str, str]:
        _ = self.gettext
        return {
            "sent": _("Sent"),
            "skipped": _("Nothing to say"),
            "suppressed": _("Address suppressed"),
            "expired": _("Too late"),
            "failed": _("Failed"),
            "planned": _("Waiting"),
            "sending": _("Being sent"),
            "retry": _("To be tried again"),
            "unknown": _("Outcome unknown"),
        }


class Languages:
    """The localizers of all locales, found by the locale in a user's row.

    Args:
        kinds: the kinds of mail that the localizers can name.
        product: the product's name in mails.
    """

    def __init__(self, kinds: Sequence[Kind], product: str) -> None:
        self._kinds = kinds
        self._product = product
        packages = dict.fromkeys(kind.package for kind in kinds if kind.package != __package__)
        self.translations = {language: catalogue(language, packages) for language in (SOURCE_LANGUAGE, *TRANSLATED)}
        self._localizers: dict[str, Localizer] = {}
        self.localizer = lru_cache(maxsize=1024)(self._find)
        """The localizer for `de`, `de-AT`, `de_AT.UTF-8`; the English one for None and for locales without words."""

    def _find(self, name: str | None) -> Localizer:
        locale = _parse(name)
        if locale is None or locale.language not in self.translations:
            return self._localizer(SOURCE_LANGUAGE, Locale.parse(_FORMATS[SOURCE_LANGUAGE]))
        return self._localizer(locale.language, locale)

    def _localizer(self, language: str, locale: Locale) -> Localizer:
        key = str(locale)
        if key not in self._localizers:
            self._localizers[key] = Localizer(language, locale, self.translations[language], self._kinds, self._product)
        return self._localizers[key]


def _parse(name: str | None) -> Locale | None:
    plain = (name or "").strip().split(".")[0].split("@")[0].replace("-", "_")
    if not _LOCALE_NAME.match(plain):
        return None
    try:
        locale = Locale.parse(plain)
    except (UnknownLocaleError, ValueError):
        return None
    return Locale.parse(_FORMATS.get(str(locale), str(locale)))
