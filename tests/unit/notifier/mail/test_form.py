"""How every mail is built: read from the parts that a recipient's client gets."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.kinds import MAILINGS, OVERDUE, TEST, name
from tests.unit.notifier.mail import reading
from tests.unit.notifier.mail.samples import (
    HOSTILE_TITLES,
    LANGUAGES,
    ana,
    bodies,
    due_in,
    mailing,
    of_kind,
    written,
)

from taskbell.kinds import Kind
from taskbell_notifier.kinds.table import OWN
from taskbell_notifier.mail.frame import preheader
from taskbell_notifier.mail.mime import MailWriter
from taskbell_notifier.mail.render import Renderer

DARK = "prefers-color-scheme: dark"
each_kind = pytest.mark.parametrize("kind", OWN, ids=name)
each_language = pytest.mark.parametrize("language", LANGUAGES)
each_title = pytest.mark.parametrize("title", HOSTILE_TITLES, ids=ascii)


def html_of(renderer: Renderer, writer: MailWriter, kind: Kind, language: str = "en", **how: object) -> str:
    """The HTML part, as received."""
    return bodies(written(writer, kind, of_kind(renderer, kind, language, **how)))[1]  # type: ignore[arg-type]


def document(html: str) -> reading.Element:
    return reading.read(html)


def only(found: list[reading.Element]) -> reading.Element:
    assert len(found) == 1
    return found[0]


@each_kind
@each_language
def test_the_document_names_language_direction_title_and_colour_schemes(
    renderer: Renderer, writer: MailWriter, kind: Kind, language: str
):
    raw = written(writer, kind, of_kind(renderer, kind, language))
    html = bodies(raw)[1]
    root = document(html)
    page = only(root.all("html"))
    assert html.startswith("<!DOCTYPE html>")
    assert (page.attributes["lang"], page.attributes["dir"]) == (language, "ltr")
    assert only(root.all("title")).text() == of_kind(renderer, kind, language).subject
    metas = {meta.attributes.get("name"): meta.attributes.get("content") for meta in root.all("meta")}
    assert metas["color-scheme"] == metas["supported-color-schemes"] == "light dark"
    assert metas["viewport"] == "width=device-width, initial-scale=1"


@each_kind
@each_language
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_visible_text_has_a_contrast_of_at_least_4_5(
    renderer: Renderer, writer: MailWriter, kind: Kind, language: str, scheme: str
):
    html = html_of(renderer, writer, kind, language, count=30)
    css = only(document(html).all("style")).text()
    overrides = (
        reading.rules(reading.media_block(css.replace("scheme:d", "scheme: d"), DARK)) if scheme == "dark" else []
    )
    texts = reading.visible_texts(only(document(html).all("body")), overrides)
    assert len(texts) > 5
    weak = [(text, colours) for text, colours in texts if reading.contrast(colours) < 4.5]
    assert weak == []
    backgrounds = {colours.background for _, colours in texts}
    assert ("#ffffff" in backgrounds) == (scheme == "light")


@pytest.mark.parametrize(("scheme", "red"), [("light", "#b42318"), ("dark", "#fda29b")])
def test_overdue_is_red_and_says_so(renderer: Renderer, writer: MailWriter, scheme: str, red: str):
    html = html_of(renderer, writer, OVERDUE, count=3)
    css = only(document(html).all("style")).text().replace("scheme:d", "scheme: d")
    overrides = reading.rules(reading.media_block(css, DARK)) if scheme == "dark" else []
    texts = reading.visible_texts(only(document(html).all("body")), overrides)
    # 22.5, 15 and 7.5 hours before Friday 08:00 in Berlin
    labels = ["1 day overdue", "1 day overdue", "due earlier today"]
    assert [text for text, colours in texts if colours.text == red] == labels


@each_kind
@each_language
def test_every_link_is_absolute_and_nothing_is_loaded(
    renderer: Renderer, writer: MailWriter, kind: Kind, language: str
):
    html = html_of(renderer, writer, kind, language, count=30)
    root = document(html)
    for link in root.all("a"):
        assert re.match(r"https://[a-z.]+(/|$)", link.attributes["href"])
    tags = {element.tag for element in root.all()}
    assert not tags & {"img", "script", "link", "iframe", "object", "form", "base", "svg", "video"}
    assert not re.search(r"url\(|@import|@font-face| on\w+=|\bsrc=|\bbackground=", html)


@each_kind
@each_language
def test_layout_tables_say_so_and_data_tables_have_scoped_headings(
    renderer: Renderer, writer: MailWriter, kind: Kind, language: str
):
    root = document(html_of(renderer, writer, kind, language))
    layout = [table for table in root.all("table") if table.attributes.get("role") == "presentation"]
    data = [table for table in root.all("table") if "role" not in table.attributes]
    assert len(layout) + len(data) == len(root.all("table"))
    assert not any(cell for table in layout for cell in table.all("th") if _owner(cell) in layout)
    for table in data:
        headings = table.all("th")
        assert headings
        assert all(heading.attributes["scope"] in {"col", "row", "rowgroup"} for heading in headings)
        assert all(row.all("th") for row in table.all("tr"))
    assert bool(data) == (kind is not TEST)


def _owner(cell: reading.Element) -> reading.Element:
    element = cell
    while element.tag != "table":
        assert element.parent is not None
        element = element.parent
    return element


@pytest.mark.parametrize("kind", MAILINGS, ids=name)
@each_language
def test_there_is_one_button_at_least_44_pixels_high(renderer: Renderer, writer: MailWriter, kind: Kind, language: str):
    root = document(html_of(renderer, writer, kind, language))
    style = only([link for link in root.all("a") if "press" in link.classes()]).style()
    above_and_below = int(style["padding"].split()[0].removesuffix("px"))
    assert int(style["line-height"].removesuffix("px")) + 2 * above_and_below >= 44
    assert style["display"] == "inline-block"


@each_kind
def test_body_text_is_16_pixels_in_a_column_of_600_that_can_shrink(renderer: Renderer, writer: MailWriter, kind: Kind):
    root = document(html_of(renderer, writer, kind))
    assert only(root.all("body")).style()["font-size"] == "16px"
    column = only([table for table in root.all("table") if "column" in table.classes()]).style()
    assert (column["max-width"], column["width"]) == ("600px", "100%")
    widths = [int(w.removesuffix("px")) for e in root.all() if (w := e.style().get("width", "")).endswith("px")]
    assert max(widths, default=0) <= 160


@each_kind
@each_title
def test_the_preheader_is_hidden_and_40_to_90_characters_long(
    renderer: Renderer, writer: MailWriter, kind: Kind, title: str
):
    for language in LANGUAGES:
        root = document(html_of(renderer, writer, kind, language, title=title, count=2))
        hidden = only([div for div in root.all("div") if "preheader" in div.classes()])
        assert hidden.style()["display"] == "none"
        assert 40 <= len(hidden.text()) <= 90


@given(st.lists(st.text(max_size=100), max_size=4))
def test_any_teasers_make_a_preheader_of_40_to_90_characters(teasers: list[str]):
    reason = "You get this mail because open tasks assigned to you are due within a day."
    assert 40 <= len(preheader(teasers, reason)) <= 90


@each_kind
@each_language
def test_an_ordinary_mail_is_below_30_kb(renderer: Renderer, writer: MailWriter, kind: Kind, language: str):
    title = "Prepare the slides for the quarterly review with the sales team"
    people = (
        mailing(
            renderer,
            kind,
            [due_in(hours, n, title=f"{title} {n}") for n in range(1, 40) for hours in (-n, 0.5 * n)],
            ana(language),
        )
        if kind in MAILINGS
        else of_kind(renderer, kind, language)
    )
    html = bodies(written(writer, kind, people))[1]
    assert len(html.encode()) <= 30_000


@each_kind
@each_title
def test_no_titles_make_a_mail_larger_than_90_kb(renderer: Renderer, writer: MailWriter, kind: Kind, title: str):
    for language in LANGUAGES:
        assert len(html_of(renderer, writer, kind, language, title=title, count=40).encode()) <= 90_000


@each_kind
@pytest.mark.parametrize("title", [title for title in HOSTILE_TITLES if title.strip()], ids=ascii)
def test_a_title_never_becomes_markup(renderer: Renderer, writer: MailWriter, kind: Kind, title: str):
    html = html_of(renderer, writer, kind, title=title, count=2)
    harmless = html_of(renderer, writer, kind, title="harmless", count=2)
    assert _skeleton(document(html)) == _skeleton(document(harmless))


def _skeleton(root: reading.Element) -> list[tuple[str, list[str]]]:
    return [(element.tag, sorted(element.attributes)) for element in root.all()]


def test_a_hostile_title_is_shown_as_the_text_that_it_is(renderer: Renderer, writer: MailWriter):
    title = "<script>alert(\"1\" & '2')</script> {{ 7 * 7 }}"
    root = document(html_of(renderer, writer, OVERDUE, title=title, count=1))
    assert [link.text() for link in root.all("a") if "task" in link.classes()] == [title]
    assert title in bodies(written(writer, OVERDUE, of_kind(renderer, OVERDUE, title=title)))[0]


@each_kind
@each_title
def test_no_control_leaves_the_mail_and_every_title_is_isolated(
    renderer: Renderer, writer: MailWriter, kind: Kind, title: str
):
    rendered = of_kind(renderer, kind, title=title, count=2)
    text, html = bodies(written(writer, kind, rendered))
    controls = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066\u2067\u200e\u200f\u061c]")
    assert not controls.search(text)
    assert not controls.search(html)
    assert not re.search("[\x00-\x1f\u2066-\u2069]", rendered.subject)
    for part in (text, html):
        for line in part.split("\n"):
            assert line.count("\u2068") == line.count("\u2069")


def test_right_to_left_titles_are_isolated_in_both_parts(renderer: Renderer, writer: MailWriter):
    text, html = bodies(written(writer, OVERDUE, of_kind(renderer, OVERDUE, title="عنوان", count=1)))
    assert "\n* \u2068عنوان\u2069\n" in text
    assert "<bdi>عنوان</bdi>" in html


def test_each_line_of_a_long_right_to_left_title_is_isolated(renderer: Renderer, writer: MailWriter):
    rendered = mailing(renderer, OVERDUE, [due_in(-1, title="كلمة" + " كلمة" * 15)])
    text = bodies(written(writer, OVERDUE, rendered))[0]
    lines = [line.strip("* ") for line in text.split("\n") if "كلمة" in line]
    assert len(lines) == 2
    assert all(line.startswith("\u2068") and line.endswith("\u2069") for line in lines)


@each_kind
@each_title
def test_lines_of_the_text_part_have_at_most_78_characters_or_are_one_url(
    renderer: Renderer, writer: MailWriter, kind: Kind, title: str
):
    url = "https://x.example/" + "y" * 90
    for language in LANGUAGES:
        rendered = of_kind(renderer, kind, language, title=title, count=3, unsubscribe_url=url)
        text = bodies(written(writer, kind, rendered))[0]
        assert all(len(line) <= 78 or line == url for line in text.split("\n"))
        assert "\n\n\n" not in text


@each_kind
@each_language
def test_ordinary_text_parts_keep_to_the_line_length_too(
    renderer: Renderer, writer: MailWriter, kind: Kind, language: str
):
    text = bodies(written(writer, kind, of_kind(renderer, kind, language, count=40)))[0]
    assert max(map(len, text.split("\n"))) <= 78
    assert "\n\n\n" not in text
    assert text.endswith("\n")


def test_a_long_title_is_cut_at_80_graphemes_and_at_60_in_subjects(renderer: Renderer):
    rendered = mailing(renderer, OVERDUE, [due_in(-1, title="é" * 500)])
    assert rendered.subject == "Overdue: " + "é" * 59 + "…"
    assert f"<bdi>{'é' * 79}…</bdi>" in rendered.html
    assert "é" * 79 + "…" in rendered.text.replace("\n  ", "")
