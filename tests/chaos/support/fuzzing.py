"""Runs a hypothesis test with the size and the seed of this run."""

from collections.abc import Callable
from typing import Any

import hypothesis

from tests.chaos.support.plan import Plan


def fuzz(attack: Callable[..., None], plan: Plan, seed: int, *, quick: int, full: int, **given: Any) -> None:
    """Calls the attack with that many examples of these strategies; a failing one is shown with its arguments."""
    sized = hypothesis.settings(max_examples=plan.pick(quick=quick, full=full), database=None)
    hypothesis.seed(seed)(sized(hypothesis.given(**given)(attack)))()
