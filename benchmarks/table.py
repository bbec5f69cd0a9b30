"""Results as text: what each case measured, and which targets were reached."""

from collections.abc import Iterator, Sequence

from benchmarks.result import Result, Run
from benchmarks.targets import Judged, judge

NOTEWORTHY = 0.1
"""The share of the machine above which unrelated processes are reported, because figures suffer from them."""


def number(value: float) -> str:
    """The number with three significant digits, and with commas between thousands."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value else "0"


def lines_of(result: Result) -> Iterator[str]:
    """One result, as lines of text."""
    yield f"{result.case}, {result.who} ({result.what})"
    if result.units > 1:
        words = f"{number(result.rate)} {result.unit}/s, {number(result.seconds)} s in all"
        yield f"  {words}" + (f", the first after {number(result.first)} s" if result.first is not None else "")
    elif result.units:
        yield f"  {number(result.seconds)} s"
    if result.cpu and result.units:
        each = result.cpu_per_thousand if result.units > 1 else result.cpu
        per = f"CPU-s per 1,000 {result.unit}" if result.units > 1 else "CPU-s"
        yield f"  {per}: " + ", ".join(f"{name} {number(value)}" for name, value in each.items())
    if result.peak_mb:
        yield "  peak MB: " + ", ".join(f"{name} {number(value)}" for name, value in result.peak_mb.items())
    if result.longest_transaction is not None:
        yield f"  longest transaction {number(result.longest_transaction)} s"
    if result.others > NOTEWORTHY:
        yield f"  unrelated processes took {result.others:.0%} of the machine"
    for name, value in result.figures.items():
        yield f"  {name}: {number(value)}"


def targets(judged: Sequence[Judged]) -> Iterator[str]:
    """The targets, as the lines of a Markdown table."""
    yield "| case | figure | measured | target | |"
    yield "|---|---|---|---|---|"
    for it in judged:
        value = "" if it.value is None else number(it.value)
        yield f"| {it.target.case} | {it.target.what} | {value} | {it.target.bound} | {it.verdict} |"


def markdown(run: Run) -> Iterator[str]:
    """All results, as the lines of a Markdown table."""
    cells = (
        "case",
        "who",
        "data",
        "rate or time",
        "workers' CPU-s per 1,000",
        "servers'",
        "peak MB",
        "longest transaction",
    )
    yield f"| {' | '.join(cells)} |"
    yield "|---|---|---|---|---|---|---|---|"
    for case in run.cases:
        for who in run.who_ran(case):
            found = run.of(case, who)
            assert found is not None
            yield _row(found)


def _row(result: Result) -> str:
    speed = f"{number(result.rate)} {result.unit}/s" if result.units > 1 else f"{number(result.seconds)} s"
    workers, servers = "", ""
    if result.cpu and result.units > 1:
        each = result.cpu_per_thousand
        workers = number(result.ours_per_thousand)
        servers = number(sum(each.get(name, 0.0) for name in ("postgresql", "rabbitmq")))
    peak = number(max(result.peak_mb.values())) if result.peak_mb else ""
    longest = "" if result.longest_transaction is None else f"{number(result.longest_transaction)} s"
    cells = (result.case, result.who, result.what, speed, workers, servers, peak, longest)
    return f"| {' | '.join(cells)} |"


def summary(run: Run) -> Iterator[str]:
    """What is printed at the end of a run."""
    yield from targets(judge(run))
