"""Every zone, every year: a daily schedule at a fixed hour fires exactly once a local date, when cronsim says so.

A date that fires twice is one of which somebody gets two mails; one that is left out, none.
"""

import os
import random
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from importlib.resources import files
from multiprocessing import get_context
from zoneinfo import ZoneInfo

from taskbell_scheduler.cron import parse_cron
from taskbell_scheduler.occurrences import occurrences
from tests.chaos.support.figures import Figures
from tests.chaos.support.plan import Plan
from tests.support.cron_oracle import Matcher, by_cronsim, by_minutes, clock_changes, iana_zones, rules

ROW = "every zone, 2020 to 2037"
FIRST, LAST = date(2020, 1, 1), date(2037, 12, 31)
DAY = timedelta(days=1)
# In the small hours and around midnight, when clocks change.
CRONS = {"30 2 * * *": Matcher([30], [2]), "0 0 * * *": Matcher([0], [0])}
CHANGING = {"30 23 * * *": Matcher([30], [23])}  # where the clock changes at all: a third of the work is spared

Firings = dict[date, list[datetime]]
"""The instants of each local date."""


@dataclass(frozen=True)
class Swept:
    """What one schedule did in one zone in all those years."""

    zone: str
    cron: str
    occurrences: int
    double: list[date]
    missed: list[date]
    otherwise: list[datetime]
    """Instants that only one of the two has, cronsim or we."""
    settled: int
    """How many such instants the clock itself, looked at every minute, settled in our favour; they are in no list."""


def test_a_daily_schedule_fires_once_a_local_date_in_every_zone(plan: Plan, seed: int, figures: Figures) -> None:
    by_rules = zones_by_rules()
    sample = plan.pick(quick=8, full=len(by_rules))
    chosen = random.Random(seed).sample(sorted(zones[0] for zones in by_rules), sample)
    names = {zones[0]: zones for zones in by_rules}
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as workers:
        swept = list(workers.map(sweep, [(zone, cron) for zone in chosen for cron in crons_for(zone)], chunksize=4))

    figures.note(ROW, "zones", sum(len(names[zone]) for zone in chosen))
    figures.note(ROW, "occurrences", sum(it.occurrences * len(names[it.zone]) for it in swept))
    figures.note(ROW, "double", sum(len(it.double) for it in swept), at_most=0)
    figures.note(ROW, "missed", sum(len(it.missed) for it in swept), at_most=0)
    figures.note(ROW, "instants in which cronsim is wrong by the clock itself", sum(it.settled for it in swept))
    wrong = [it for it in swept if it.double or it.missed or it.otherwise]
    assert not wrong, f"SEED={seed}: {wrong[:5]}"
    dates = (LAST - FIRST).days + 1
    assert {it.occurrences for it in swept} == {dates}


def zones_by_rules() -> list[list[str]]:
    """All zones; those of one list have byte for byte the same rules, so that one of them stands for the others."""
    found: dict[bytes, list[str]] = {}
    for zone in iana_zones():
        found.setdefault(files("tzdata").joinpath("zoneinfo", *zone.split("/")).read_bytes(), []).append(zone)
    return list(found.values())


def crons_for(zone: str) -> list[str]:
    """The schedules that it is tried with."""
    return [*CRONS, *(CHANGING if clock_changes(rules(zone), FIRST.year, LAST.year) else ())]


def sweep(what: tuple[str, str]) -> Swept:
    """All years of one schedule in one zone; run by a process of its own."""
    name, cron = what
    zone = rules(name)
    after, until = (datetime.combine(day, datetime.min.time(), zone) for day in (FIRST, LAST + DAY))
    start, end = after.astimezone(UTC) - timedelta(microseconds=1), until.astimezone(UTC) - timedelta(microseconds=1)
    found = list(occurrences(parse_cron(cron), zone, after=start, until=end))
    fired: Firings = {}
    for occurrence in found:
        fired.setdefault(date.fromisoformat(occurrence.key[:10]), []).append(occurrence.at)
    ours = [occurrence.at for occurrence in found]
    differ = sorted({*ours} ^ {*by_cronsim(cron, zone, start, end)})
    otherwise = [at for at in differ if not as_the_clock_has_it(ours, at, (CRONS | CHANGING)[cron], zone)]
    return Swept(
        name,
        cron,
        occurrences=len(found),
        double=[day for day, instants in fired.items() if len(instants) > 1],
        missed=[day for day in days() if day not in fired],
        otherwise=otherwise,
        settled=len(differ) - len(otherwise),
    )


def as_the_clock_has_it(ours: list[datetime], at: datetime, matcher: Matcher, zone: ZoneInfo) -> bool:
    """Are our instants of half a day around `at` those at which the local clock shows the time?

    cronsim's base is zoneinfo, which errs where a zone's list of changes ends and its rule for later years begins.
    """
    start, end = at - DAY / 2, at + DAY / 2
    return by_minutes(matcher, zone, start, end) == [it for it in ours if start < it <= end]


def days() -> Iterator[date]:
    """All dates of these years."""
    return (FIRST + ahead * DAY for ahead in range((LAST - FIRST).days + 1))
