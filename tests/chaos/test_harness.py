"""The harness itself: what a run is told, and what it tells."""

import pytest

from tests.chaos.support.figures import Figure, Figures
from tests.chaos.support.plan import Plan


def test_a_run_is_quick_and_its_seed_is_drawn_unless_told_otherwise() -> None:
    plan = Plan.of({"SEED": "", "ROUNDS": ""})
    assert (plan.full, plan.rounds) == (False, 1)
    assert Plan.of({}) != Plan.of({})


def test_every_round_has_the_next_seed() -> None:
    plan = Plan.of({"CHAOS": "full", "SEED": "7", "ROUNDS": "3"})
    assert list(plan.seeds) == [7, 8, 9]
    assert plan.pick(quick=1, full=2) == 2
    assert str(plan) == "chaos: full, SEED=7 ROUNDS=3"


@pytest.mark.parametrize(
    ("name", "given", "sentence"),
    [
        ("CHAOS", "large", "CHAOS is 'large': give quick or full"),
        ("SEED", "-1", "SEED is '-1': give a whole number"),
        ("ROUNDS", "many", "ROUNDS is 'many': give a whole number"),
    ],
)
def test_what_it_cannot_be_told_is_named(name: str, given: str, sentence: str) -> None:
    with pytest.raises(ValueError, match="^" + sentence.replace("-", r"\-")):
        Plan.of({name: given})


def test_a_figure_says_when_it_is_out_of_bounds() -> None:
    assert str(Figure("broker away", "seconds until it consumes", 3.2, at_most=10)) == (
        "broker away: seconds until it consumes 3.2 (at most 10)"
    )
    assert str(Figure("kills", "kills", 99, at_least=100)).endswith("  <-- OUT OF BOUNDS")


def test_what_was_measured_is_kept_in_its_order() -> None:
    figures = Figures()
    figures.note("alarm", "seconds until a publish fails", 5.1, at_most=5)
    figures.note("kills", "kills", 100)
    assert [figure.fits for figure in figures.taken] == [False, True]
