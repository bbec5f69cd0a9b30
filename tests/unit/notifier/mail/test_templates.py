"""Templates are inlined, translated and compiled once; what comes out must be what inlining each mail would give."""

import gettext
import re

import css_inline
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import UndefinedError
from markupsafe import Markup, escape
from tests.support.kinds import OVERDUE, name
from tests.unit.notifier.mail import reading
from tests.unit.notifier.mail.samples import BERLIN, FRIDAY_EIGHT, ana, content_of, due_in

from taskbell.kinds import Button, Kind
from taskbell_notifier.kinds.table import OWN
from taskbell_notifier.mail import frame, sources, tasks
from taskbell_notifier.mail.context import Installation, WritingContext
from taskbell_notifier.mail.links import Links
from taskbell_notifier.mail.sources import Compiler
from taskbell_notifier.mail.words import Languages

ENGLISH = gettext.NullTranslations()


def an_overdue_mail(rows: int) -> dict[str, object]:
    """What its templates see, with that many tasks."""
    installation = Installation("Taskbell", Links("https://app.example.com"), tasks.entry)
    localizer = Languages(OWN, "Taskbell").localizer("en")
    local = FRIDAY_EIGHT.astimezone(BERLIN)
    context = WritingContext(installation, localizer, ana(), FRIDAY_EIGHT, FRIDAY_EIGHT, local, "https://x.example/u/y")
    content = content_of(OVERDUE, [due_in(-n, n, title=f"<i>{n}</i>") for n in range(1, rows + 2)])
    text = OVERDUE.compose(context, content)
    assert isinstance(text.props, tasks.TaskListProps)
    props = text.props._replace(tasks=text.props.tasks[:rows])
    return {"frame": frame.frame(context, localizer.kinds["overdue"], text), "mail": props}


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
    ours = compiler.html(sources.html_source(OVERDUE)).render(**mail)
    rendered_first = compiler.html(sources.page_source(OVERDUE)).render(**mail)
    inliner = css_inline.CSSInliner(keep_at_rules=True, minify_css=True, load_remote_stylesheets=False)
    assert tree(ours) == tree(inliner.inline(rendered_first))
    assert ours.count("<bdi>&lt;i&gt;") == rows


@pytest.mark.parametrize("kind", OWN, ids=name)
def test_no_template_logic_is_moved_or_escaped_by_the_inliner(kind: Kind):
    logic = re.compile(r"<!--% .*? %-->|\{\{ .*? \}\}")
    found = logic.findall(sources.html_source(kind))
    assert len(found) > 20
    assert found == logic.findall(sources.page_source(kind))


@pytest.mark.parametrize("kind", OWN, ids=name)
def test_every_class_stands_in_the_style_sheet_and_none_depends_on_data(kind: Kind):
    known = set(re.findall(r"\.([a-z]+)\b", re.sub(r"/\*.*?\*/", "", sources.read("mail.css"), flags=re.DOTALL)))
    used = re.findall(r'class="([^"]*)"', sources.page_source(kind))
    assert used
    assert {name for value in used for name in value.split()} <= known


def test_a_missing_value_is_an_error_and_not_an_empty_place():
    template = Compiler("en", ENGLISH).html("<p>{{ mail.nothing }}</p>")
    with pytest.raises(UndefinedError):
        template.render(mail=Button("a", None))


def test_html_templates_escape_whatever_they_are_called():
    assert Compiler("en", ENGLISH).html("{{ mail }}").render(mail="<&\"'>") == "&lt;&amp;&#34;&#39;&gt;"
    assert Compiler("en", ENGLISH).text("{{ mail }}").render(mail="<&\"'>") == "<&\"'>"


ESCAPING = Compiler("en", ENGLISH).html("<p title='{{ mail }}'>{{ mail }}</p>")


@given(st.text() | st.text("&<>\"'a", max_size=8) | st.integers() | st.none() | st.text().map(Markup))
def test_values_are_escaped_as_jinja_itself_does_it(value: object):
    assert ESCAPING.render(mail=value) == f"<p title='{escape(value)}'>{escape(value)}</p>"


def test_no_value_becomes_markup_which_would_cost_a_tenth_of_a_mail():
    assert {type(piece) for piece in ESCAPING.generate(mail="a<b")} == {str}


def test_templates_have_none_of_jinjas_global_functions():
    for template in (Compiler("en", ENGLISH).html("{{ range(3) }}"), Compiler("en", ENGLISH).text("{{ range(3) }}")):
        with pytest.raises(UndefinedError):
            template.render()


def test_words_become_constants_and_are_escaped():
    class Loud(gettext.NullTranslations):
        def gettext(self, message: str) -> str:
            return f"<{message.upper()}>"

    template = Compiler("en", Loud()).html("{{ _('open') }} {{ mail._ }}")
    assert template.render(mail={"_": "x"}) == "&lt;OPEN&gt; x"


@pytest.mark.parametrize("kind", [OVERDUE], ids=name)
def test_a_right_to_left_language_is_laid_out_from_the_right(kind: Kind):
    html = Compiler("ar", ENGLISH).html(sources.html_source(kind)).render(**an_overdue_mail(1))
    page = reading.read(html)
    assert page.all("html")[0].attributes["dir"] == "rtl"
    assert {cell.attributes["align"] for cell in page.all("th") if cell.attributes["scope"] == "row"} == {"right"}
    assert {cell.attributes["align"] for cell in page.all("td") if "aside" in cell.classes()} == {"left"}
