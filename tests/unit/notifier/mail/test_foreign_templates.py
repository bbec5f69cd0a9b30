"""Templates and catalogues of packages: our parts are theirs too, and what is wrong is told at the start."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.kinds import FOREIGN
from tests.support.packages import packages_in

from taskbell.errors import SettingsError
from taskbell.kinds import Kind
from taskbell_notifier.mail.links import Links
from taskbell_notifier.mail.render import Renderer
from taskbell_notifier.mail.sources import page_source, text_source

KIND = replace(FOREIGN, package="acme_mail")
TEXT = "{{ frame.lead }}\n"
HTML = '<p class="lead">{{ frame.lead }}</p>\n'


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """The package's folder, with templates that are right."""
    with packages_in(tmp_path):
        folder = tmp_path / "acme_mail"
        (folder / "templates").mkdir(parents=True)
        (folder / "__init__.py").touch()
        (folder / "templates" / "stand_up.txt.j2").write_text(TEXT)
        (folder / "templates" / "stand_up.html.j2").write_text(HTML)
        yield folder


def renderer(kind: Kind = KIND) -> Renderer:
    return Renderer({kind.name: kind}, Links())


@pytest.mark.parametrize(
    "include",
    ['{% include "_task.txt.j2" %}', "{% include '_task.txt.j2' %}", '{%- include "_task.txt.j2" -%}'],
)
def test_a_package_includes_our_parts_and_puts_its_own_in_their_place(folder: Path, include: str) -> None:
    (folder / "templates" / "stand_up.txt.j2").write_text(f"{{% for task in mail.tasks %}}{include}{{% endfor %}}")
    assert "task.text_title" in text_source(KIND)
    (folder / "templates" / "_task.txt.j2").write_text("mine\n")
    assert "{% for task in mail.tasks %}mine{% endfor %}" in text_source(KIND)


def test_html_takes_the_package_into_our_layout(folder: Path) -> None:
    source = page_source(KIND)
    assert HTML in source
    assert source.startswith("<!DOCTYPE html>")
    renderer()


@pytest.mark.parametrize(
    ("name", "source", "said"),
    [
        ("stand_up.txt.j2", "{% for task in mail.tasks %}", "a template cannot be read: Unexpected end of template."),
        ("stand_up.txt.j2", "One\n{{ frame.lead }\n", "in the line '{{ frame.lead }'"),
        (
            "stand_up.html.j2",
            "{% if mail %}<p>One</p>{% endif %}",
            "templates/stand_up.html.j2 of acme_mail: in HTML, blocks are written <!--% … %-->, not {% … %}",
        ),
        ("stand_up.html.j2", "<!--% if mail %--><p>One</p>", "a template cannot be read: Unexpected end of template."),
        ("stand_up.html.j2", '<!--% include "_tasks" %-->', "the template templates/_tasks is missing from acme_mail"),
    ],
)
def test_what_is_wrong_with_a_template_is_told(folder: Path, name: str, source: str, said: str) -> None:
    (folder / "templates" / name).write_text(source)
    with pytest.raises(SettingsError) as told:
        renderer()
    assert said in str(told.value)


def test_a_package_that_cannot_be_imported_is_named() -> None:
    with pytest.raises(
        SettingsError, match=r"^acme-mail, which is to have the folder locales/ of a kind of mail, cannot be imported"
    ):
        renderer(replace(FOREIGN, package="acme-mail"))


@pytest.mark.parametrize("source", ['"One"', 'msgid "One"\nmsgid_plural "Many"\nmsgstr[x] "Eins"'])
def test_a_catalogue_that_cannot_be_read_is_named(folder: Path, source: str) -> None:
    catalogue = folder / "locales" / "de" / "LC_MESSAGES" / "mail.po"
    catalogue.parent.mkdir(parents=True)
    catalogue.write_text(source)
    with pytest.raises(SettingsError) as told:
        renderer()
    assert str(told.value).startswith(str(catalogue))
