"""What a case found, and the little arithmetic that there is on it."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

OURS = "taskbell"


@dataclass(frozen=True)
class Result:
    """One case, of us or of a peer."""

    case: str
    what: str
    """On which data, in words."""
    units: int
    unit: str
    """What was done that often, such as mails."""
    seconds: float
    who: str = OURS
    first: float | None = None
    """Seconds to the first result."""
    cpu: Mapping[str, float] = field(default_factory=dict)
    """CPU seconds by process over the whole case."""
    peak_mb: Mapping[str, float] = field(default_factory=dict)
    """By process, the kernel's own peak of its resident memory."""
    longest_transaction: float | None = None
    """Seconds, by a look every 50 ms."""
    others: float = 0.0
    """The share of the machine that processes took which had no part in it."""
    figures: Mapping[str, float] = field(default_factory=dict)
    """The case's own, by a name that has its unit."""

    @property
    def rate(self) -> float:
        """Units a second."""
        return self.units / self.seconds if self.seconds else 0.0

    @property
    def cpu_per_thousand(self) -> dict[str, float]:
        """CPU seconds by process per 1,000 units."""
        return {name: spent / self.units * 1000 for name, spent in self.cpu.items()} if self.units else {}

    @property
    def ours_per_thousand(self) -> float:
        """CPU seconds of the services themselves per 1,000 units: all but the servers' and the benchmark's own."""
        return sum(spent for name, spent in self.cpu_per_thousand.items() if name not in NOT_THE_WORKERS)

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        told = {"rate": self.rate, "cpu_per_thousand": self.cpu_per_thousand}
        return asdict(self) | told

    @classmethod
    def of_json(cls, told: Mapping[str, Any]) -> "Result":
        """What `to_json` made."""
        derived = ("rate", "cpu_per_thousand")
        return cls(**{name: value for name, value in told.items() if name not in derived})


NOT_THE_WORKERS = ("postgresql", "rabbitmq", "sink", "smtp-sink", "benchmark", "publisher")
"""In `cpu`, what is not the services: servers, and what publishes and measures."""


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of the values are not above (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def middle(results: Sequence[Result]) -> Result:
    """Of several runs of one case the one with the median time (of an even number, the better of the two)."""
    return sorted(results, key=lambda it: it.seconds)[(len(results) - 1) // 2]


def median(values: Sequence[float]) -> float:
    """As the statistics module has it."""
    return statistics.median(values)


@dataclass(frozen=True)
class Run:
    """All results of one run."""

    machine: Mapping[str, Any]
    results: Sequence[Result]

    def of(self, case: str, who: str = OURS) -> Result | None:
        """The middle one of that case."""
        found = [it for it in self.results if it.case == case and it.who == who]
        return middle(found) if found else None

    @property
    def cases(self) -> list[str]:
        """In the order in which they were first run."""
        return list(dict.fromkeys(it.case for it in self.results))

    def who_ran(self, case: str) -> list[str]:
        """Peers first, in the order in which they ran, and us last."""
        names = list(dict.fromkeys(it.who for it in self.results if it.case == case))
        return sorted(names, key=lambda name: name == OURS)

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        return {"machine": dict(self.machine), "results": [it.to_json() for it in self.results]}

    @classmethod
    def of_json(cls, told: Mapping[str, Any]) -> "Run":
        """What `to_json` made."""
        return cls(told["machine"], [Result.of_json(it) for it in told["results"]])
