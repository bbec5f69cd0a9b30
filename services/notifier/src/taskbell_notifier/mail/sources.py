"""Compiles template files when the renderer is constructed.

An HTML template goes through four steps: its parts are put together, its CSS is moved into style attributes, its words
are translated into each language, and the result is compiled. So a mail needs no inlining and no look-up of static
words.

Inlining works on the template's source, not on rendered mails. The inliner parses HTML, and a parser moves stray text
such as `{% for %}` out of a table; therefore the block delimiters of HTML templates are comments, `<!--% for … %-->`,
which may stand anywhere. No style may depend on data, so every class is in the source.
"""

import gettext
import re
from collections.abc import Iterator

import css_inline
from babel import Locale
from jinja2 import Environment, StrictUndefined, Template, TemplateSyntaxError, nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.ext import Extension
from jinja2.lexer import Token, TokenStream
from markupsafe import escape

from taskbell.errors import SettingsError
from taskbell.kinds import Kind
from taskbell_notifier.mail.folders import folder_of

_INCLUDE = re.compile(r"(?:<!--%|\{%)-?\s+include\s+[\"']([\w.]+)[\"']\s+-?(?:%-->|%\})")
_INDENT = re.compile(r"\n\s*")
_SPECIAL = re.compile("[&<>\"']")


class Constants(Extension):
    """Inserts what depends only on the language while a template is compiled, so that Jinja makes it part of the text.

    `_('words')` becomes the translation of that literal; `direction`, `start` and `end` become "ltr", "left" and
    "right", or the reverse. The environment must carry `translations` and `sides`.
    """

    def filter_stream(self, stream: TokenStream) -> Iterator[Token]:
        translations: gettext.NullTranslations = self.environment.translations  # type: ignore[attr-defined]
        sides: dict[str, str] = self.environment.sides  # type: ignore[attr-defined]
        attribute = False
        while not stream.eos:
            token = next(stream)
            if token.type == "name" and not attribute:
                if token.value == "_":
                    stream.expect("lparen")
                    words = stream.expect("string")
                    stream.expect("rparen")
                    token = Token(words.lineno, "string", translations.gettext(words.value))
                elif token.value in sides:
                    token = Token(token.lineno, "string", sides[token.value])
            attribute = token.type == "dot"
            yield token


def read(name: str, package: str | None = None) -> str:
    """The source of a template: the package's own, or ours if it has none of that name.

    Raises:
        SettingsError: neither has it, or the package cannot be imported.
    """
    for place in (package, __package__):
        if place is not None and (path := folder_of(place, "templates") / name).is_file():
            return path.read_text(encoding="utf-8")
    msg = f"the template templates/{name} is missing from {package or __package__}"
    raise SettingsError(msg)


def assembled(name: str, parts: dict[str, str] | None = None, package: str | None = None) -> str:
    """The template with its includes in place; `parts` has the includes that are not files."""

    def part(match: re.Match[str]) -> str:
        included = match[1]
        found = parts[included] if parts and included in parts else assembled(included, parts, package)
        return found.rstrip("\n")

    return _INCLUDE.sub(part, read(name, package))


def page_source(kind: Kind) -> str:
    """The whole HTML template of that kind of mail, with its style sheet not yet inlined."""
    body = assembled(f"{kind.name}.html.j2", package=kind.package)
    if "{%" in body:
        msg = (
            f"templates/{kind.name}.html.j2 of {kind.package}: in HTML, blocks are written <!--% … %-->, not {{% … %}}"
        )
        raise SettingsError(msg)
    return assembled("layout.html.j2", {"body": body, "style": read("mail.css")})


def html_source(kind: Kind) -> str:
    """The HTML template with its styles inlined; its words are not translated yet."""
    inliner = css_inline.CSSInliner(
        # The rules for dark colours and narrow screens.
        keep_at_rules=True,
        minify_css=True,
        load_remote_stylesheets=False,
    )
    return _INDENT.sub("\n", inliner.inline(page_source(kind)))


def text_source(kind: Kind) -> str:
    """The whole text template of that kind of mail."""
    return assembled("layout.txt.j2", {"body": assembled(f"{kind.name}.txt.j2", package=kind.package)})


class Compiler:
    """Compiles templates into one language.

    Raises:
        SettingsError: a template cannot be compiled; the error shows the line.
    """

    def __init__(self, language: str, translations: gettext.NullTranslations) -> None:
        self._html = html_environment()
        self._text = text_environment()
        direction = Locale.parse(language).text_direction
        start, end = ("right", "left") if direction == "rtl" else ("left", "right")
        for environment in (self._html, self._text):
            environment.add_extension(Constants)
            environment.extend(translations=translations, sides={"direction": direction, "start": start, "end": end})

    def html(self, source: str) -> Template:
        """An HTML template; every value in it is escaped."""
        return _compiled(self._html, source)

    def text(self, source: str) -> Template:
        """A template of plain text."""
        return _compiled(self._text, source)


def _compiled(environment: Environment, source: str) -> Template:
    try:
        return environment.from_string(source)
    except TemplateSyntaxError as error:
        line = source.splitlines()[error.lineno - 1].strip()
        msg = f"a template cannot be read: {error.message}, in the line {line!r}"
        raise SettingsError(msg) from error


def escaped(value: object) -> str:
    """The value as HTML text, as Jinja's `escape` writes it; most have nothing that needs escaping."""
    if type(value) is str and _SPECIAL.search(value) is None:
        return value
    return str(escape(value))


class _QuickEscaping(CodeGenerator):
    """Compiles templates that escape values by `escaped`, under the name by which compiled code calls Jinja's `escape`.

    Jinja's makes Markup of every value, which takes a tenth of a mail's CPU time. If a version of Jinja called it by
    another name, it would escape the values, mails would be the same, and a test would fail.
    """

    def visit_Template(self, node: nodes.Template, frame: Frame | None = None) -> None:
        super().visit_Template(node, frame)
        self.writeline("escape = environment.escaped")


class _HtmlEnvironment(Environment):
    code_generator_class = _QuickEscaping
    escaped = staticmethod(escaped)


def html_environment() -> Environment:
    """The environment of HTML templates. Autoescape is always on; no file name decides about it."""
    environment = _HtmlEnvironment(
        block_start_string="<!--%",
        block_end_string="%-->",
        comment_start_string="<!--#",
        comment_end_string="#-->",
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return _without_globals(environment)


def text_environment() -> Environment:
    """The environment of text templates."""
    environment = Environment(
        autoescape=False,  # noqa: S701 (plain text: there is nothing to escape for)
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return _without_globals(environment)


def _without_globals(environment: Environment) -> Environment:
    """Jinja's global functions are copied for every mail, and no template calls them."""
    environment.globals.clear()
    return environment
