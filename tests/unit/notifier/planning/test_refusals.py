"""Kinds whose own statement was refused: for how long they are left out, and what readiness says."""

from dataclasses import replace

import pytest
from sqlalchemy.exc import DBAPIError
from tests.support.kinds import FOREIGN, OVERDUE

from taskbell.health import Health
from taskbell.kinds import Statement
from taskbell_notifier.planning import refusals
from taskbell_notifier.planning.refusals import Refusals

KIND = replace(FOREIGN, who=Statement("SELECT 1"))
ERROR = DBAPIError("SELECT 1", None, Exception("canceling statement\nDETAIL: ada@example.org"))


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "PAUSE", 0.0)


@pytest.mark.parametrize(("took", "left_out"), [(0.0, []), (60.0, ["stand_up"])])
async def test_a_statement_that_took_long_is_left_out_for_longer(took: float, left_out: list[str]) -> None:
    refused = Refusals(Health())
    refused.add(KIND, ERROR, took=took)
    assert list(refused.kinds()) == left_out


async def test_readiness_says_so_without_values_until_a_page_is_planned() -> None:
    health = Health()
    refused = Refusals(health)
    refused.over("stand_up")
    assert health.report()["parts"] == {}
    refused.add(KIND, ERROR, took=0.0)
    assert health.ready
    assert health.report()["parts"]["planner of stand_up"] == {
        "state": "degraded",
        "detail": "PostgreSQL refuses the statement that says who gets stand_up mails: canceling statement",
    }
    refused.over("stand_up")
    assert health.report()["parts"]["planner of stand_up"] == {"state": "ready"}


async def test_what_is_not_tried_now_is_not_over_when_nothing_else_is_left() -> None:
    health = Health()
    refused = Refusals(health)
    refused.add(KIND, ERROR, took=60.0)
    refused.nothing_left()
    assert health.report()["status"] == "degraded"


async def test_the_statement_of_a_kind_by_conditions_is_ours_and_its_error_everybodys() -> None:
    with pytest.raises(DBAPIError):
        Refusals(Health()).add(OVERDUE, ERROR, took=0.0)
