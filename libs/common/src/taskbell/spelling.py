"""Hints for mistyped words, for messages that a person reads."""

import re
from collections.abc import Iterable
from difflib import get_close_matches

_LONGEST = 60


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown word: `; did you mean 'cron'?`, or an empty text if no known word is near.

    A known word is near if only few characters differ, or if `word` is its last part: `berlin` is near Europe/Berlin.
    Case does not matter, and a blank counts as an underscore.
    """
    names = {_folded(name): name for name in sorted(known)}
    typed = _folded(word)
    near = [name for name in names if re.split("[./]", name)[-1] == typed] or get_close_matches(typed, names, n=1)
    return f"; did you mean {names[near[0]]!r}?" if near else ""


def shortened(text: str) -> str:
    """The given text in quotes, short enough for a message."""
    return repr(text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "...")


def _folded(word: str) -> str:
    return word.casefold().replace(" ", "_")
