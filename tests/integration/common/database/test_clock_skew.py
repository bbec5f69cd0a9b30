"""A clock that differs from the database's is measured, and named."""

from datetime import UTC, datetime, timedelta

import pytest
from tests.support.probes import ping

from taskbell.clock_skew import ClockSkew
from taskbell.database import Database
from taskbell.gate import Gate
from taskbell.health import Health
from taskbell.metrics import Metrics


class WrongClock:
    """The system's clock, wrong by some seconds."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.seconds)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (90.5, "this machine's clock is 90 s ahead of the database's: set both by NTP"),
        (-3600.5, "this machine's clock is 3600 s behind the database's: set both by NTP"),
        (-6.5, "this machine's clock is 6 s behind the database's: set both by NTP"),
        (3, ""),
        (0, ""),
    ],
)
async def test_a_clock_that_differs_is_named_with_its_seconds(database: Database, wrong: float, words: str) -> None:
    health, metrics = Health(), Metrics()
    gate = Gate("postgresql", lambda: ping(database), health)
    skew = ClockSkew(database, gate, WrongClock(wrong), health=health, metrics=metrics)
    skew.report(await skew.measure())
    part = health.report()["parts"]["clock"]
    assert (part["state"], part.get("detail", "")) == ("degraded" if words else "ready", words)
    measured = metrics.registry.get_sample_value("taskbell_clock_skew_seconds")
    assert measured == pytest.approx(wrong, abs=0.45)
    if words:
        skew.report(0.1)
        assert health.report()["parts"]["clock"] == {"state": "ready"}
