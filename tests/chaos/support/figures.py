"""What a run measured, beside the bounds that docs/guarantee.md gives.

A figure out of its bounds is marked in the table and fails no test: the machine may be slow. What holds on every
machine (nothing lost, nothing twice) is asserted by the tests themselves.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Figure:
    row: str
    """The row of the failure matrix, in a few words."""
    what: str
    """What was measured, with its unit."""
    value: float
    at_most: float | None = None
    at_least: float | None = None

    @property
    def fits(self) -> bool:
        """Whether it is within its bounds, if it has any."""
        over = self.at_most is not None and self.value > self.at_most
        under = self.at_least is not None and self.value < self.at_least
        return not (over or under)

    def __str__(self) -> str:
        bounds = [f"at most {self.at_most:g}"] if self.at_most is not None else []
        bounds += [f"at least {self.at_least:g}"] if self.at_least is not None else []
        said = f" ({', '.join(bounds)})" if bounds else ""
        return f"{self.row}: {self.what} {self.value:.4g}{said}{'' if self.fits else '  <-- OUT OF BOUNDS'}"


@dataclass
class Figures:
    """The figures of one test, in the order in which they were measured."""

    taken: list[Figure] = field(default_factory=list)

    def note(
        self, row: str, what: str, value: float, *, at_most: float | None = None, at_least: float | None = None
    ) -> None:
        """Keeps a figure for the table at the end."""
        self.taken.append(Figure(row, what, value, at_most, at_least))
