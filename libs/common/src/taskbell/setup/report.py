"""What the steps of setup report."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SetupReport:
    """Sentences about what a step did, what it left out, what nobody needs any more, and what should be changed."""

    done: Sequence[str] = ()
    left_out: Sequence[str] = ()
    left_over: Sequence[str] = ()
    is_last: bool = False
    """Whether the further steps are left out."""
    advice: Sequence[str] = ()

    def __add__(self, other: "SetupReport") -> "SetupReport":
        return SetupReport(
            (*self.done, *other.done),
            (*self.left_out, *other.left_out),
            (*self.left_over, *other.left_over),
            other.is_last,
            (*self.advice, *other.advice),
        )
