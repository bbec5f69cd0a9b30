"""The targets of the cases, and whether they were reached."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.result import Result, Run

Measure = Callable[[Run], float | None]

USUAL, TUNED = "usual Celery", "tuned Celery"


@dataclass(frozen=True)
class Target:
    """One figure of one case, with its bound."""

    case: str
    what: str
    measure: Measure
    at_least: float | None = None
    at_most: float | None = None

    @property
    def bound(self) -> str:
        """The bound in words."""
        return f"≥ {self.at_least:g}" if self.at_least is not None else f"≤ {self.at_most:g}"

    def reached(self, value: float) -> bool:
        """Whether that value reaches the target."""
        if self.at_least is not None:
            return value >= self.at_least
        assert self.at_most is not None
        return value <= self.at_most


@dataclass(frozen=True)
class Judged:
    """A target and the measured value."""

    target: Target
    value: float | None
    """None: it depends on a peer or a case that did not run."""

    @property
    def verdict(self) -> str:
        """The result in words."""
        if self.value is None:
            return "not measured"
        return "reached" if self.target.reached(self.value) else "missed"


def ours(case: str, of: Callable[[Result], float | None]) -> Measure:
    """Measures a figure of our own result."""

    def measure(run: Run) -> float | None:
        found = run.of(case)
        return None if found is None else of(found)

    return measure


def figure(case: str, name: str) -> Measure:
    """Measures one of the case's own figures."""
    return ours(case, lambda it: it.figures.get(name))


def times(case: str, who: str, of: Callable[[Result], float | None]) -> Measure:
    """Measures a figure of ours as a multiple of a peer's."""

    def measure(run: Run) -> float | None:
        mine, theirs = run.of(case), run.of(case, who)
        if mine is None or theirs is None:
            return None
        a, b = of(mine), of(theirs)
        return None if a is None or not b else a / b

    return measure


def rate(result: Result) -> float:
    """Units per second."""
    return result.rate


def seconds(result: Result) -> float:
    """The seconds that the whole case took."""
    return result.seconds


def worker_cpu(result: Result) -> float:
    """CPU seconds of the services per 1,000 units."""
    return result.ours_per_thousand


def peak(result: Result) -> float:
    """Peak memory of the largest process, in MB."""
    return max(result.peak_mb.values(), default=0.0)


def transaction(result: Result) -> float | None:
    """Seconds of the longest transaction."""
    return result.longest_transaction


def first(result: Result) -> float | None:
    """Seconds to the first result."""
    return result.first


TARGETS: Sequence[Target] = (
    Target("mailing", "rate, times the usual", times("mailing", USUAL, rate), at_least=6),
    Target("mailing", "rate, times the tuned", times("mailing", TUNED, rate), at_least=2.5),
    Target("mailing", "CPU-s of ours per 1,000", ours("mailing", worker_cpu), at_most=0.5),
    Target("slow-smtp", "rate, times the tuned", times("slow-smtp", TUNED, rate), at_least=2),
    Target("commands", "rate, times the tuned", times("commands", TUNED, rate), at_least=2.5),
    Target("cleanup", "time, times the tuned", times("cleanup", TUNED, seconds), at_most=2),
    Target("cleanup", "MB at most", ours("cleanup", peak), at_most=100),
    Target("cleanup", "longest transaction, s", ours("cleanup", transaction), at_most=0.25),
    Target("report", "time, times the tuned", times("report", TUNED, seconds), at_most=2),
    Target("planning", "recipients a second", ours("planning", rate), at_least=50_000),
    Target("planning", "MB at most in every process", ours("planning", peak), at_most=150),
    Target("planning", "MB more than for 10,000", figure("planning", "MB more than for 10,000"), at_most=10),
    Target("first-mail", "seconds after the event", ours("first-mail", first), at_most=0.15),
    Target("idle", "% of a core, three processes", figure("idle", "% of a core, three processes"), at_most=3),
    Target("idle", "MB PSS, three processes", figure("idle", "MB PSS, three processes"), at_most=270),
    Target("idle", "MB PSS, run all", figure("idle", "MB PSS, run all"), at_most=140),
    Target("scheduler", "late at p99, s", figure("scheduler", "late at p99, s"), at_most=1),
    Target("scheduler", "% of a core", figure("scheduler", "% of a core"), at_most=5),
    Target("two-notifiers", "rate, times that of one", figure("two-notifiers", "times the rate of one"), at_least=1.7),
)


def judge(run: Run) -> list[Judged]:
    """Every target of the cases that ran, with its measured value."""
    return [Judged(it, it.measure(run)) for it in TARGETS if it.case in run.cases]
