"""Suspicion: the same refusal for several people in a row is hardly the fault of each of them.

It keeps, for each refusal's words (`blame.alike`), the people who met them since the server last took a mail. If they
are PEOPLE, or if the words name the sender and this is the first time, the words are suspected: sending pauses, and
nobody ends for them. The next mail that the server takes clears all suspicions, and for an hour the same words need
twice as many people. Whoever had met suspected words before that is known: if they meet them again, although the server
takes mail to others, it is theirs alone, and does not pause sending again.
"""

from collections.abc import Callable
from enum import StrEnum

PEOPLE = 3
"""So many people who meet the same words in a row make them suspect."""

MOST_NEEDED = 48

KNOWN_SECONDS = 3600.0
"""How long somebody is known who has met words that were suspected wrongly."""

MOST_WORDS = 1_000


class Standing(StrEnum):
    """What a refusal means beside those of other people."""

    ALONE = "alone"
    """Too few have met it in a row."""
    SUSPECTED = "suspected"
    """It speaks of us, not of this person: sending pauses."""
    KNOWN = "known"
    """This person met it before, and the server has taken mail to others since."""


class Suspicions:
    """The refusals of one server, as one process has met them.

    Args:
        seconds: a clock that never goes back.
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._people: dict[str, set[str]] = {}
        self._suspected: set[str] = set()
        self._known: dict[tuple[str, str], float] = {}
        self._needed: dict[str, tuple[int, float]] = {}
        """By words: how many people, and since when."""

    @property
    def any(self) -> bool:
        """Whether words are suspected now."""
        return bool(self._suspected)

    def needed(self, words: str, *, names_us: bool = False) -> int:
        """How many people in a row make these words suspect: twice as many for an hour after each time it was wrong.

        Args:
            names_us: the words name the sender or the relay, so one person is enough the first time.
        """
        several, since = self._needed.get(words, (PEOPLE, -KNOWN_SECONDS))
        if self._seconds() - since < KNOWN_SECONDS:
            return several
        return 1 if names_us else PEOPLE

    def knows(self, words: str, person: str) -> bool:
        """Whether this person met these words before the server took mail to others."""
        met = self._known.get((words, person))
        return met is not None and self._seconds() - met < KNOWN_SECONDS

    def refused(self, words: str, person: str, *, names_us: bool) -> Standing:
        """Notes a refusal.

        Args:
            names_us: the words name the sender or the relay.
        """
        if self.knows(words, person):
            self._known[words, person] = self._seconds()
            return Standing.KNOWN
        if len(self._people) >= MOST_WORDS and words not in self._people:
            self._people.clear()
        people = self._people.setdefault(words, set())
        people.add(person)
        if words in self._suspected or len(people) >= self.needed(words, names_us=names_us):
            self._suspected.add(words)
            return Standing.SUSPECTED
        return Standing.ALONE

    def suspect(self, words: str) -> None:
        """Suspects words that other processes have met."""
        self._suspected.add(words)
        self._people.setdefault(words, set())

    def taken(self) -> None:
        """Notes that the server has taken a mail: whatever it refused was not our fault."""
        if not self._people and not self._suspected:
            return
        now = self._seconds()
        if self._suspected:
            self._known = {it: met for it, met in self._known.items() if now - met < KNOWN_SECONDS}
        for words in self._suspected:
            self._known.update(dict.fromkeys(((words, person) for person in self._people.get(words, ())), now))
            if len(self._needed) >= MOST_WORDS:
                self._needed.clear()
            self._needed[words] = (min(2 * self.needed(words), MOST_NEEDED), now)
        self._suspected.clear()
        self._people.clear()


class ThrottledRecipients:
    """How often mails to one recipient were throttled while the server took those of others."""

    def __init__(self) -> None:
        self._taken = 0
        self._met: dict[str, tuple[int, int]] = {}
        """By recipient: how often in a row, and how many mails had been taken before the first time."""

    def taken(self, recipient: str) -> None:
        """Notes that the server has taken a mail to them."""
        self._taken += 1
        self._met.pop(recipient, None)

    def refused(self, recipient: str) -> int:
        """Notes that a mail to them was throttled; returns how often in a row, 0 if few others were taken meanwhile."""
        if len(self._met) >= MOST_WORDS and recipient not in self._met:
            self._met.clear()
        times, before = self._met.get(recipient, (0, self._taken))
        self._met[recipient] = (times + 1, before)
        return times + 1 if self._taken - before >= times else 0

    def forget(self, recipient: str) -> None:
        """Begins anew with them."""
        self._met.pop(recipient, None)
