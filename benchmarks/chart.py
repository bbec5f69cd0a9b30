"""Draws docs/performance.svg: a panel of bars for each figure. SVG is text, so this needs no library."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

from benchmarks.result import OURS, Result, Run
from benchmarks.table import number
from benchmarks.targets import worker_cpu

WIDTH, LABEL, BAR, GAP, TITLE, MARGIN = 760, 130, 22, 6, 34, 20
LONGEST = WIDTH - LABEL - 2 * MARGIN - 150
# Readable on light and on dark pages.
STYLE = """
    text { font: 14px system-ui, sans-serif; fill: #1f2328 }
    .title { font-weight: 600 }
    .peer { fill: #8c959f }
    .ours { fill: #0969da }
    .back { fill: #ffffff }
    @media (prefers-color-scheme: dark) {
        text { fill: #e6edf3 }
        .peer { fill: #6e7681 }
        .ours { fill: #4493f8 }
        .back { fill: #0d1117 }
    }
"""


@dataclass(frozen=True)
class Panel:
    """One figure of one case."""

    title: str
    case: str
    of: Callable[[Result], float | None]
    unit: str


PANELS: Sequence[Panel] = (
    Panel("Overdue mailing, mails a second (more is better)", "mailing", lambda it: it.rate, "/s"),
    Panel("… CPU seconds of the workers per 1,000 mails (less is better)", "mailing", worker_cpu, " s"),
    Panel("Mail server 50 ms away, mails a second (more is better)", "slow-smtp", lambda it: it.rate, "/s"),
    Panel("Status commands a second (more is better)", "commands", lambda it: it.rate, "/s"),
    Panel("Cleanup of 150,000 of 1,000,000 tasks (less is better)", "cleanup", lambda it: it.seconds, " s"),
    Panel("… its longest transaction (less is better)", "cleanup", lambda it: it.longest_transaction, " s"),
    Panel("Report over 1,000,000 tasks (less is better)", "report", lambda it: it.seconds, " s"),
)


def bars(panel: Panel, run: Run) -> list[tuple[str, float]]:
    """Who ran the panel's case, each with its figure."""
    found = [(who, run.of(panel.case, who)) for who in run.who_ran(panel.case)]
    values = [(who, panel.of(result)) for who, result in found if result is not None]
    return [(who, value) for who, value in values if value is not None]


def length(value: float, most: float) -> float:
    """The length of a bar in pixels; even the shortest is visible."""
    return max(2.0, LONGEST * value / most) if most > 0 else 2.0


def svg(run: Run) -> str:
    """The picture, without the panels of cases that did not run."""
    drawn: list[str] = []
    y = MARGIN
    for panel in PANELS:
        if found := bars(panel, run):
            drawn += _panel(panel, found, y)
            y += TITLE + len(found) * (BAR + GAP) + GAP
    height = y + MARGIN
    body = "\n".join(drawn)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'role="img" aria-labelledby="what">\n'
        '<title id="what">Taskbell beside Celery, as measured by python -m benchmarks</title>\n'
        f"<style>{STYLE}</style>\n"
        f'<rect class="back" width="{WIDTH}" height="{height}"/>\n{body}\n</svg>\n'
    )


def _panel(panel: Panel, found: Sequence[tuple[str, float]], y: int) -> Iterator[str]:
    yield f'<text class="title" x="{MARGIN}" y="{y + 20}">{escape(panel.title)}</text>'
    most = max(value for _, value in found)
    for place, (who, value) in enumerate(found):
        top = y + TITLE + place * (BAR + GAP)
        long, middle = length(value, most), top + BAR - 6
        kind = "ours" if who == OURS else "peer"
        yield f'<text x="{MARGIN}" y="{middle}">{escape(who)}</text>'
        yield f'<rect class="{kind}" x="{MARGIN + LABEL}" y="{top}" width="{long:.1f}" height="{BAR}" rx="3"/>'
        yield f'<text x="{MARGIN + LABEL + long + 8:.1f}" y="{middle}">{number(value)}{escape(panel.unit)}</text>'
