"""How large a run is, and what its random choices start from."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self, TypeVar

Size = TypeVar("Size")

SEEDS = 2**31


@dataclass(frozen=True)
class Plan:
    """The size, the seed and the number of rounds, as the environment gives them."""

    full: bool
    seed: int
    rounds: int

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Self:
        """Reads CHAOS, SEED and ROUNDS; draws a seed if none is given.

        Raises:
            ValueError: the value of one of them is not allowed.
        """
        size = environ.get("CHAOS") or "quick"
        if size not in ("quick", "full"):
            msg = f"CHAOS is {size!r}: give quick or full"
            raise ValueError(msg)
        seed, rounds = (_number(environ, name) for name in ("SEED", "ROUNDS"))
        return cls(size == "full", random.randrange(SEEDS) if seed is None else seed, rounds or 1)

    @property
    def seeds(self) -> range:
        """One for each round."""
        return range(self.seed, self.seed + self.rounds)

    def pick(self, *, quick: Size, full: Size) -> Size:
        """The value for the size of this run."""
        return full if self.full else quick

    def __str__(self) -> str:
        size = "full" if self.full else "quick"
        return f"chaos: {size}, SEED={self.seed} ROUNDS={self.rounds}"


def _number(environ: Mapping[str, str], name: str) -> int | None:
    given = environ.get(name)
    if not given:
        return None
    if not given.isdecimal():
        msg = f"{name} is {given!r}: give a whole number"
        raise ValueError(msg)
    return int(given)
