"""Templates are inlined, translated and compiled once; what comes out must be what inlining each mail would give."""

import gettext
import re

import css_inline
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import UndefinedError
from markupsafe import Markup, escape
from tests.unit.notifier.mail import reading
from tests.unit.notifier.mail.samples import FRIDAY_EIGHT, ana, due_in

from taskbell.contracts import MailKind
from taskbell_notifier.domain import select_overdue
from taskbell_notifier.mail import content, frame, sources
from taskbell_notifier.mail.links import Links
from taskbell_notifier.mail.sources import Compiler
from taskbell_notifier.mail.words import Languages

ENGLISH = gettext.NullTranslations()


def an_overdue_mail(rows: int) -> content.TaskListMail:
    house = frame.House("Taskbell", Links("https://app.example.com"))
    at = frame.scene(house, Languages().voice("en"), ana(), FRIDAY_EIGHT, "https://x.example/u/y")
    selection = select_overdue([due_in(-n, n, title=f"<i>{n}</i>") for n in range(1, rows + 2)], FRIDAY_EIGHT)
    assert selection is not None
    mail = content.overdue_mail(at, selection)
    return mail._replace(tasks=mail.tasks[:rows])


def tree(html: str) -> list[tuple[str, dict[str, object], str]]:
    """Every element with its attributes, styles taken apart, and its own text without white space."""
    flat = []
    for element in reading.read(re.sub(r"<!--.*?-->", "", html, flags=re.DOTALL)).all():
        attributes: dict[str, object] = dict(element.attributes)
        if "style" in element.attributes:
            attributes["style"] = element.style()
        own = "".join(child for child in element.children if isinstance(child, str))
        flat.append((element.tag, attributes, "".join(own.split())))
    return flat


@pytest.mark.parametrize("rows", [0, 1, 25])
def test_inlining_the_template_gives_what_inlining_the_mail_gives(rows: int):
    mail = an_overdue_mail(rows)
    compiler = Compiler("en", ENGLISH)
    ours = compiler.html(sources.html_source(MailKind.OVERDUE)).render(frame=mail.frame, mail=mail)
    rendered_first = compiler.html(sources.page_source(MailKind.OVERDUE)).render(frame=mail.frame, mail=mail)
    inliner = css_inline.CSSInliner(keep_at_rules=True, minify_css=True, load_remote_stylesheets=False)
    assert tree(ours) == tree(inliner.inline(rendered_first))
    assert ours.count("<bdi>&lt;i&gt;") == rows


@pytest.mark.parametrize("kind", MailKind)
def test_no_template_logic_is_moved_or_escaped_by_the_inliner(kind: MailKind):
    logic = re.compile(r"<!--% .*? %-->|\{\{ .*? \}\}")
    found = logic.findall(sources.html_source(kind))
    assert len(found) > 20
    assert found == logic.findall(sources.page_source(kind))


@pytest.mark.parametrize("kind", MailKind)
def test_every_class_stands_in_the_style_sheet_and_none_depends_on_data(kind: MailKind):
    known = set(re.findall(r"\.([a-z]+)\b", re.sub(r"/\*.*?\*/", "", sources.read("mail.css"), flags=re.DOTALL)))
    used = re.findall(r'class="([^"]*)"', sources.page_source(kind))
    assert used
    assert {name for value in used for name in value.split()} <= known


def test_a_missing_value_is_an_error_and_not_an_empty_place():
    template = Compiler("en", ENGLISH).html("<p>{{ mail.nothing }}</p>")
    with pytest.raises(UndefinedError):
        template.render(mail=frame.Button("a", None))


def test_html_templates_escape_whatever_they_are_called():
    assert Compiler("en", ENGLISH).html("{{ mail }}").render(mail="<&\"'>") == "&lt;&amp;&#34;&#39;&gt;"
    assert Compiler("en", ENGLISH).text("{{ mail }}").render(mail="<&\"'>") == "<&\"'>"


ESCAPING = Compiler("en", ENGLISH).html("<p title='{{ mail }}'>{{ mail }}</p>")


@given(st.text() | st.text("&<>\"'a", max_size=8) | st.integers() | st.none() | st.text().map(Markup))
def test_values_are_escaped_as_jinja_itself_does_it(value: object):
    assert ESCAPING.render(mail=value) == f"<p title='{escape(value)}'>{escape(value)}</p>"


def test_words_become_constants_and_are_escaped():
    class Loud(gettext.NullTranslations):
        def gettext(self, message: str) -> str:
            return f"<{message.upper()}>"

    template = Compiler("en", Loud()).html("{{ _('open') }} {{ mail._ }}")
    assert template.render(mail={"_": "x"}) == "&lt;OPEN&gt; x"


@pytest.mark.parametrize("kind", [MailKind.OVERDUE])
def test_a_right_to_left_language_is_laid_out_from_the_right(kind: MailKind):
    html = (
        Compiler("ar", ENGLISH)
        .html(sources.html_source(kind))
        .render(frame=(mail := an_overdue_mail(1)).frame, mail=mail)
    )
    page = reading.read(html)
    assert page.all("html")[0].attributes["dir"] == "rtl"
    assert {cell.attributes["align"] for cell in page.all("th") if cell.attributes["scope"] == "row"} == {"right"}
    assert {cell.attributes["align"] for cell in page.all("td") if "aside" in cell.classes()} == {"left"}
