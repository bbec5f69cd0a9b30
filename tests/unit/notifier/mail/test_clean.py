import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskbell_notifier.mail import clean

BIDI_CONTROLS = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
FAMILY = "👨‍👩‍👧‍👦"
ENGLAND = "🏴󠁧󠁢󠁥󠁮󠁧󠁿"


def made_of(*pieces: str) -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from(pieces)).map("".join)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("plain", "plain"),
        ("  a \t b\r\nc\u2028d\x0be ", "a b c d e"),
        ("no\xa0break\u3000wide", "no break wide"),
        ("a\x00b\x1b[0m\x7f\x9f", "ab[0m"),
        (f"a{BIDI_CONTROLS}b", "ab"),
        ("\ufeffstart \ud800half", "start half"),
        (FAMILY, FAMILY),
        ("नमस्ते", "नमस्ते"),
        ("", ""),
        ("\u202e\u200f", ""),
    ],
)
def test_a_text_becomes_one_line_without_controls(text: str, line: str):
    assert clean.one_line(text) == line


@given(st.text())
def test_a_line_never_holds_what_is_unwanted(text: str):
    line = clean.one_line(text)
    assert not any(unicodedata.category(letter) in {"Cc", "Cs", "Zl", "Zp"} for letter in line)
    assert not set(line) & set(BIDI_CONTROLS)
    assert line == line.strip()
    assert clean.one_line(line) == line


@pytest.mark.parametrize(
    ("text", "graphemes", "expected"),
    [
        ("x" * 80, 80, "x" * 80),
        ("x" * 81, 80, "x" * 79 + "…"),
        ("é" * 10_000, 80, "é" * 79 + "…"),
        ("e\u0301" * 81, 80, "e\u0301" * 79 + "…"),
        ("e\u0301" * 80, 80, "e\u0301" * 80),
        (FAMILY * 3, 3, FAMILY * 2 + "…"),  # 25 bytes each: cut by size
        ("🇩🇪" * 60, 60, "🇩🇪" * 60),
        ("🇩🇪" * 61, 60, "🇩🇪" * 59 + "…"),
        ("👩🏽‍💻 " * 9, 5, "👩🏽‍💻 👩🏽‍💻…"),
        ("abc def ghi", 5, "abc…"),
        ("각" * 6, 5, "각" * 4 + "…"),
    ],
)
def test_a_text_is_cut_between_graphemes(text: str, graphemes: int, expected: str):
    assert clean.cut(text, graphemes) == expected


def test_a_letter_with_thousands_of_accents_does_not_fill_the_mail():
    shown = clean.cut("a" + "\u0301" * 5_000 + "b", 80)
    assert shown.endswith("…")
    assert len(shown.encode()) <= 80 * 18 + 3


@given(made_of(*"ab \u0301\u200d", "👩", "🏽", FAMILY, "🇩", "🇪", ENGLAND, "ม", "ำ"))
def test_a_cut_text_is_a_beginning_of_the_whole_with_bounded_size(text: str):
    shown = clean.cut(text, 20)
    assert len(shown.encode()) <= 20 * 18 + 3
    if shown != text:
        assert shown.endswith("…")
        assert text.startswith(shown[:-1])


@given(made_of("a", FAMILY, "e\u0301", "🇩🇪"), st.integers(2, 30))
def test_a_text_cut_by_characters_keeps_its_graphemes_whole(text: str, characters: int):
    shown = clean.cut_characters(text, characters)
    assert len(shown) <= characters
    if shown == text:
        return
    kept = shown.removesuffix("…")
    assert text.startswith(kept)
    if kept and len(kept) < characters - 1:  # room was left, so the next grapheme did not fit
        assert not text[len(kept) :].startswith("\u0301")
        assert not text[len(kept) :].startswith("\u200d")


def test_right_to_left_text_is_isolated_and_other_text_is_left_alone():
    assert clean.isolate("Prüfung 👍") == "Prüfung 👍"
    assert clean.isolate("عنوان") == "\u2068عنوان\u2069"
    assert clean.isolate("a כותרת") == "\u2068a כותרת\u2069"


def test_lines_are_wrapped_at_blanks_and_long_words_between_graphemes():
    assert clean.wrap("one two three", 7) == ["one two", "three"]
    assert clean.wrap("a" * 10, 4) == ["aaaa", "aaaa", "aa"]
    assert clean.wrap("e\u0301" * 3, 5) == ["e\u0301e\u0301", "e\u0301"]
    assert clean.wrap("fits", 4) == ["fits"]


@given(made_of(*"abc  ", FAMILY, "e\u0301"), st.integers(3, 40))
def test_wrapping_loses_nothing_and_keeps_to_the_width(text: str, width: int):
    lines = clean.wrap(text, width)
    assert all(len(line) <= width for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
