"""Cleans text from outside for mails: one line, no controls, cut between graphemes, isolated by direction.

A title is hostile input. It may reorder the words beside it (bidi controls), end a header (CR, LF), or fill the page
(ten thousand characters, or one letter with a thousand accents).
"""

import re

import regex

TITLE_GRAPHEMES = 80
SUBJECT_TITLE_GRAPHEMES = 60
NAME_GRAPHEMES = 40
PROJECT_GRAPHEMES = 30
WORD_GRAPHEMES = 16
"""For a status or a priority that we do not know."""
ELLIPSIS = "…"

_BYTES_PER_GRAPHEME = 18
"""Enough for every script and nearly all emoji. A text that needs more on average is cut by size instead, so that a
mail of 25 such titles stays below the size at which clients clip it."""

_READ_AT_MOST = 8192
"""Characters of a text that are read; those after them could not be shown anyway."""

_UNWANTED = re.compile(
    "["
    "\x00-\x1f\x7f-\x9f"  # C0, DEL, C1
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # every character with the property Bidi_Control
    "\u206a-\u206f\ufff9-\ufffb\ufeff"  # deprecated format characters, annotations, byte order mark
    "\ud800-\udfff"  # halves of surrogate pairs: no UTF-8 can carry them
    "]+"
)
_GRAPHEME = regex.compile(r"\X")
_RIGHT_TO_LEFT = regex.compile(r"[\p{bc=R}\p{bc=AL}]")
_FIRST_STRONG_ISOLATE = "\u2068"
_POP_ISOLATE = "\u2069"


def one_line(text: str) -> str:
    """The text without controls, bidi controls and lone surrogates; every run of white space becomes one blank.

    Zero-width joiners stay, because emoji and some scripts need them.
    """
    line = " ".join(text[:_READ_AT_MOST].split())
    # True of nearly every title; a printable text contains nothing unwanted.
    if line.isprintable():
        return line
    return " ".join(_UNWANTED.sub("", line).split())


def cut(text: str, graphemes: int) -> str:
    """At most that many graphemes (UAX #29); the last one is "…" if something was cut off.

    A text of unusually long graphemes is cut at 18 bytes of UTF-8 for each grapheme, so that its size is bounded too.
    """
    if len(text) <= graphemes:
        return text
    if text.isascii():
        return text[: graphemes - 1].rstrip() + ELLIPSIS
    room = graphemes * _BYTES_PER_GRAPHEME
    pieces: list[str] = []
    for match in _GRAPHEME.finditer(text):
        piece = match.group()
        size = len(piece.encode())
        if size > room or len(pieces) == graphemes:
            break
        room -= size
        pieces.append(piece)
    else:
        return text
    # The first grapheme alone is larger than the room, so it is cut by characters.
    if not pieces:
        return text[:graphemes] + ELLIPSIS
    return "".join(pieces[: graphemes - 1]).rstrip() + ELLIPSIS


def cut_characters(text: str, characters: int) -> str:
    """At most that many characters (code points), never half a grapheme; the last is "…" if something was cut off."""
    if len(text) <= characters:
        return text
    end = 0
    for match in _GRAPHEME.finditer(text):
        if match.end() >= characters:
            break
        end = match.end()
    return text[: end or characters - 1].rstrip() + ELLIPSIS


def title(text: str, graphemes: int = TITLE_GRAPHEMES) -> str:
    """A task's title as a mail shows it; "" if nothing of it can be shown."""
    return cut(one_line(text), graphemes)


def isolate(text: str) -> str:
    """The text, isolated if it is right-to-left, so that it does not reorder the rest of a plain text line."""
    if text.isascii() or not _RIGHT_TO_LEFT.search(text):
        return text
    return f"{_FIRST_STRONG_ISOLATE}{text}{_POP_ISOLATE}"


def wrap(text: str, width: int) -> list[str]:
    """The text in lines of at most `width` characters; a longer word is broken between graphemes."""
    if len(text) <= width:
        return [text]
    lines: list[str] = []
    line = ""
    for word in text.split(" "):
        for piece in [word] if len(word) <= width else _broken(word, width):
            if not line:
                line = piece
            elif len(line) + 1 + len(piece) <= width:
                line = f"{line} {piece}"
            else:
                lines.append(line)
                line = piece
    if line:
        lines.append(line)
    return lines


def _broken(word: str, width: int) -> list[str]:
    pieces: list[str] = []
    piece = ""
    for match in _GRAPHEME.finditer(word):
        grapheme = match.group()
        if piece and len(piece) + len(grapheme) > width:
            pieces.append(piece)
            piece = ""
        while len(grapheme) > width:
            pieces.append(grapheme[:width])
            grapheme = grapheme[width:]
        piece += grapheme
    if piece:
        pieces.append(piece)
    return pieces
