"""The results of cases, and the arithmetic on them."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

OURS = "taskbell"


@dataclass(frozen=True)
class Result:
    """The result of one run of a case, ours or a peer's."""

    case: str
    what: str
    """The data, in words."""
    units: int
    unit: str
    """The name of the units, such as mails."""
    seconds: float
    who: str = OURS
    first: float | None = None
    """Seconds to the first result."""
    cpu: Mapping[str, float] = field(default_factory=dict)
    """CPU seconds by process over the whole case."""
    peak_mb: Mapping[str, float] = field(default_factory=dict)
    """The peak of resident memory by process, as the kernel records it."""
    longest_transaction: float | None = None
    """In seconds, checked every 50 ms."""
    others: float = 0.0
    """The share of the machine that unrelated processes took."""
    figures: Mapping[str, float] = field(default_factory=dict)
    """The case's own figures, by names that contain the units."""

    @property
    def rate(self) -> float:
        """Units per second."""
        return self.units / self.seconds if self.seconds else 0.0

    @property
    def cpu_per_thousand(self) -> dict[str, float]:
        """CPU seconds by process per 1,000 units."""
        return {name: spent / self.units * 1000 for name, spent in self.cpu.items()} if self.units else {}

    @property
    def ours_per_thousand(self) -> float:
        """CPU seconds per 1,000 units of the services alone, without the servers and the benchmark itself."""
        return sum(spent for name, spent in self.cpu_per_thousand.items() if name not in NOT_THE_WORKERS)

    def to_json(self) -> dict[str, Any]:
        """The result as JSON, with derived figures."""
        derived = {"rate": self.rate, "cpu_per_thousand": self.cpu_per_thousand}
        return asdict(self) | derived

    @classmethod
    def of_json(cls, given: Mapping[str, Any]) -> "Result":
        """The result that `to_json` wrote."""
        derived = ("rate", "cpu_per_thousand")
        return cls(**{name: value for name, value in given.items() if name not in derived})


NOT_THE_WORKERS = ("postgresql", "rabbitmq", "sink", "smtp-sink", "benchmark", "publisher")
"""The names in `cpu` that are not services: the servers, and the processes that publish and measure."""


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value such that at least this share of the values are not larger (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def middle(results: Sequence[Result]) -> Result:
    """The run with the median time of several runs of one case; if their number is even, the faster of the two."""
    return sorted(results, key=lambda it: it.seconds)[(len(results) - 1) // 2]


def median(values: Sequence[float]) -> float:
    """The median, as the statistics module defines it."""
    return statistics.median(values)


@dataclass(frozen=True)
class Run:
    """All results of one run."""

    machine: Mapping[str, Any]
    results: Sequence[Result]

    def of(self, case: str, who: str = OURS) -> Result | None:
        """The middle result of that case; None: it did not run."""
        found = [it for it in self.results if it.case == case and it.who == who]
        return middle(found) if found else None

    @property
    def cases(self) -> list[str]:
        """The cases, in the order in which they were first run."""
        return list(dict.fromkeys(it.case for it in self.results))

    def who_ran(self, case: str) -> list[str]:
        """Who ran that case: peers in the order in which they ran, then we."""
        names = list(dict.fromkeys(it.who for it in self.results if it.case == case))
        return sorted(names, key=lambda name: name == OURS)

    def to_json(self) -> dict[str, Any]:
        """The run as JSON."""
        return {"machine": dict(self.machine), "results": [it.to_json() for it in self.results]}

    @classmethod
    def of_json(cls, given: Mapping[str, Any]) -> "Run":
        """The run that `to_json` wrote."""
        return cls(given["machine"], [Result.of_json(it) for it in given["results"]])
