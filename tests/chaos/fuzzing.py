"""Running a hypothesis attack at the size and from the seed of this run."""

from collections.abc import Callable
from typing import Any

import hypothesis

from tests.chaos.plan import Plan


def fuzz(attack: Callable[..., None], plan: Plan, seed: int, *, quick: int, full: int, **given: Any) -> None:
    """Calls the attack with so many examples of these strategies; one that fails is shown with its arguments."""
    sized = hypothesis.settings(max_examples=plan.pick(quick=quick, full=full), database=None)
    hypothesis.seed(seed)(sized(hypothesis.given(**given)(attack)))()
