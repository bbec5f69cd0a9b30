"""Reads HTML mails and pages as a browser would, as far as the tests ask: elements, inherited colours, visible text."""

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "br", "img", "link", "input", "hr"}


@dataclass
class Element:
    tag: str
    attributes: dict[str, str]
    parent: "Element | None" = None
    children: list["Element | str"] = field(default_factory=list)

    def all(self, tag: str | None = None) -> list["Element"]:
        """Every element below this one, in document order."""
        found: list[Element] = []
        for child in self.children:
            if isinstance(child, Element):
                if tag is None or child.tag == tag:
                    found.append(child)
                found += child.all(tag)
        return found

    def text(self) -> str:
        return "".join(child if isinstance(child, str) else child.text() for child in self.children)

    def style(self) -> dict[str, str]:
        return declarations(self.attributes.get("style", ""))

    def classes(self) -> set[str]:
        return set(self.attributes.get("class", "").split())


class _Builder(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Element("#root", {})
        self._open = self.root

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs}, self._open)
        self._open.children.append(element)
        if tag not in VOID:
            self._open = element

    def handle_endtag(self, tag: str) -> None:
        assert self._open.tag == tag, f"</{tag}> closes <{self._open.tag}>"
        assert self._open.parent is not None
        self._open = self._open.parent

    def handle_data(self, data: str) -> None:
        self._open.children.append(data)


def read(html: str) -> Element:
    """The document; every element must be closed where it ought to be."""
    builder = _Builder()
    builder.feed(html)
    builder.close()
    return builder.root


def declarations(css: str) -> dict[str, str]:
    pairs = (part.partition(":")[::2] for part in css.split(";") if ":" in part)
    return {name.strip(): value.replace("!important", "").strip() for name, value in pairs}


def rules(css: str) -> list[tuple[str, dict[str, str]]]:
    """Plain rules: each selector with its declarations."""
    return [
        (selector.strip(), declarations(block))
        for selectors, block in re.findall(r"([^{}]+)\{([^{}]*)\}", css)
        for selector in selectors.split(",")
    ]


def media_block(css: str, condition: str) -> str:
    """What stands inside `@media (condition) { … }`."""
    start = css.index("{", css.index(condition)) + 1
    depth, end = 1, start
    while depth:
        depth += {"{": 1, "}": -1}.get(css[end], 0)
        end += 1
    return css[start : end - 1]


@dataclass(frozen=True)
class Colours:
    text: str
    background: str


def visible_texts(body: Element, overrides: list[tuple[str, dict[str, str]]]) -> list[tuple[str, Colours]]:
    """Every visible piece of text below `body`, with the colours that it is shown in.

    Colours come from style attributes, and from the overriding rules, whose selectors are classes or elements.
    """
    found: list[tuple[str, Colours]] = []

    def visit(element: Element, colours: Colours) -> None:
        style = element.style()
        for selector, block in overrides:
            if selector == element.tag or (
                selector.removeprefix(".") in element.classes() and selector.startswith(".")
            ):
                style |= block
        if style.get("display") == "none" or element.tag in {"style", "title", "head"}:
            return
        mine = Colours(style.get("color", colours.text), style.get("background-color", colours.background))
        for child in element.children:
            if isinstance(child, Element):
                visit(child, mine)
            elif child.strip():
                found.append((child.strip(), mine))

    visit(body, Colours("#000000", "#ffffff"))
    return found


def contrast(colours: Colours) -> float:
    """The contrast ratio of WCAG 2.1, 1 to 21."""
    light, dark = sorted((_luminance(colours.text), _luminance(colours.background)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    assert re.fullmatch(r"#[0-9a-f]{6}", colour), colour
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
