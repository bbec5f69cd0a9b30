import re
from datetime import UTC, date, datetime, timedelta
from importlib.resources import files
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.frontend import parse_mapping_cfg
from babel.messages.pofile import read_po

from taskbell_notifier.kinds.table import OWN
from taskbell_notifier.mail.dates import Dates
from taskbell_notifier.mail.words import TRANSLATED, Languages, catalogue

PACKAGE = Path(str(files("taskbell_notifier")))
MAIL = PACKAGE / "mail"


def words_in_the_source() -> set[object]:
    """What a translator's tool finds, by the mapping that docs/mail.md tells them to use."""
    with (MAIL / "locales" / "babel.cfg").open() as config:
        method_map, options_map = parse_mapping_cfg(config)
    keywords = {"_": None, "gettext": None, "ngettext": (1, 2), "plural": (1, 2)}
    found = extract_from_dir(PACKAGE, method_map, options_map, keywords=keywords)
    return {message for _, _, message, _, _ in found}


def catalogue_of(language: str) -> Catalog:
    with (MAIL / "locales" / language / "LC_MESSAGES" / "taskbell.po").open("rb") as source:
        return read_po(source, locale=language, abort_invalid=True)


@pytest.mark.parametrize("language", TRANSLATED)
def test_every_word_is_translated_and_no_translation_is_left_over(language: str):
    words = words_in_the_source()
    assert len(words) > 80
    translations = {message.id: message for message in catalogue_of(language) if message.id}
    assert set(translations) == words
    for message in translations.values():
        forms = message.string if isinstance(message.string, tuple) else (message.string,)
        assert all(forms)
        assert not message.fuzzy


@pytest.mark.parametrize("language", TRANSLATED)
def test_a_translation_fills_in_the_same_values_as_the_original(language: str):
    value = re.compile(r"%\(\w+\)s")
    for message in catalogue_of(language):
        original = message.id[-1] if isinstance(message.id, (tuple, list)) else message.id
        forms = message.string if isinstance(message.string, tuple) else (message.string,)
        if not original:
            continue
        expected = set(value.findall(original))
        assert set(value.findall(forms[-1])) == expected
        for form in forms:
            assert set(value.findall(form)) <= expected  # "one of your tasks" need not name its count
            assert "%" not in value.sub("", form)


def test_languages_really_differ():
    assert {catalogue(language).gettext("Open my tasks") for language in ("en", *TRANSLATED)} == {
        "Open my tasks",
        "Meine Aufgaben öffnen",
        "Ouvrir mes tâches",
        "Abrir mis tareas",
    }


@pytest.mark.parametrize(
    ("name", "language", "tag"),
    [
        ("en", "en", "en"),
        ("en-US", "en", "en-US"),
        ("en_GB.UTF-8", "en", "en-GB"),
        ("de", "de", "de"),
        (" de-at ", "de", "de-AT"),
        ("FR", "fr", "fr"),
        ("es_MX@euro", "es", "es-MX"),
        (None, "en", "en"),
        ("", "en", "en"),
        ("ja", "en", "en"),
        ("xx", "en", "en"),
        ("de_XX", "en", "en"),
        ("../../etc/passwd", "en", "en"),
        ("de" * 500, "en", "en"),
        ("d\x00e", "en", "en"),
    ],
)
def test_a_locale_finds_its_voice_and_english_falls_in(name: str | None, language: str, tag: str):
    localizer = Languages(OWN, "Taskbell").localizer(name)
    assert (localizer.language, localizer.tag) == (language, tag)


def test_one_and_many_differ_where_the_language_says_so():
    languages = Languages(OWN, "Taskbell")
    for name, none, one, many in [
        ("en", "0 overdue tasks", "1 overdue task", "12,000 overdue tasks"),
        ("de", "0 überfällige Aufgaben", "1 überfällige Aufgabe", "12.000 überfällige Aufgaben"),
        ("fr", "0 tâche en retard", "1 tâche en retard", "12 000 tâches en retard"),
        ("es", "0 tareas vencidas", "1 tarea vencida", "12.000 tareas vencidas"),
    ]:
        localizer = languages.localizer(name)
        counted = [localizer.plural("%(n)s overdue task", "%(n)s overdue tasks", count) for count in (0, 1, 12_000)]
        assert [" ".join(words.split()) for words in counted] == [none, one, many]


def dates_of(name: str) -> Dates:
    return Languages(OWN, "Taskbell").localizer(name).dates


@pytest.mark.parametrize(
    ("name", "moment"),
    [
        ("en", "Thu, 19 Nov, 17:30"),
        ("en-US", "Thu, Nov 19, 5:30 PM"),
        ("de", "Do., 19. Nov., 17:30"),
        ("fr", "jeu. 19 nov., 17:30"),
        ("es", "jue, 19 nov, 17:30"),
    ],
)
def test_moments_are_written_as_the_locale_writes_them(name: str, moment: str):
    written = dates_of(name).moment(date(2026, 11, 19), 17, 30, 2026)
    assert written.replace("\u202f", " ") == moment


@pytest.mark.parametrize(
    ("delta", "words"),
    [
        (timedelta(seconds=0), "in 1 minute"),
        (timedelta(seconds=-1), "1 minute ago"),
        (timedelta(minutes=59, seconds=29), "in 59 minutes"),
        (timedelta(minutes=59, seconds=31), "in 1 hour"),
        (timedelta(hours=4, minutes=50), "in 5 hours"),
        (timedelta(hours=-23), "23 hours ago"),
        (timedelta(hours=24), "in 24 hours"),
        (timedelta(hours=35, minutes=59), "in 36 hours"),
        (timedelta(days=2), "in 2 days"),
        (timedelta(days=-400), "400 days ago"),
    ],
)
def test_distances_are_told_in_the_unit_that_says_most(delta: timedelta, words: str):
    assert dates_of("en").distance(delta) == words


def test_distances_speak_the_language():
    assert [dates_of(name).distance(timedelta(hours=5)) for name in ("de", "fr", "es")] == [
        "in 5 Stunden",
        "dans 5 heures",
        "dentro de 5 horas",
    ]


def test_a_zone_is_named_for_the_moment_in_the_language():
    berlin = ZoneInfo("Europe/Berlin")
    winter, summer = (datetime(2026, month, 1, tzinfo=UTC).astimezone(berlin) for month in (1, 7))
    assert dates_of("en").zone(winter) == "Central European Standard Time (Europe/Berlin)"
    assert dates_of("en").zone(summer) == "Central European Summer Time (Europe/Berlin)"
    assert dates_of("de").zone(summer) == "Mitteleuropäische Sommerzeit (Europe/Berlin)"


def test_caches_stay_bounded():
    dates = dates_of("en")
    for day in range(3_000):
        dates.moment(date(2020, 1, 1) + timedelta(days=day), day % 24, day % 60, 2026)
    for hours in range(2_000):
        dates.distance(timedelta(hours=hours))
    for cache in (dates.moment, dates.day, dates.time):
        info = cache.cache_info()
        assert info.maxsize is not None
        assert info.currsize <= info.maxsize
