"""Cron expressions in English. The words name what fires: a test reads them back and compares the occurrences."""

from collections.abc import Mapping, Sequence

from croniter import croniter

from taskbell_scheduler.cron import Cron, nearest_weekday

FEW = 6
"""Up to so many times of a day are named one by one."""

WEEKDAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
ORDINALS: Mapping[int | str, str] = {1: "first", 2: "second", 3: "third", 4: "fourth", 5: "fifth", "l": "last"}


def in_words(cron: Cron) -> str:
    """An expression in English: `At 10:00 on Monday`."""
    fields, nth = croniter.expand(cron.text)
    _, _, dates, months, weekdays = fields
    days = []
    if (day := nearest_weekday(cron.text)) is not None:
        days.append(f"on the weekday nearest to day {day} of the month")
    elif dates != ["*"]:
        days.append(f"on {_dates(dates)} of the month")
    if nth:
        each = [f"the {ORDINALS[it]} {WEEKDAYS[day]}" for day in sorted(nth) for it in sorted(nth[day], key=str)]
        days.append(f"on {_listed(each)} of the month")
    elif weekdays != ["*"]:
        days.append(f"on {_listed(_runs(weekdays, WEEKDAYS))}")
    words = [_times(cron), *([" or ".join(days)] if days else [])]
    if months != ["*"]:
        words.append(f"in {_listed(_runs([month - 1 for month in months], MONTHS))}")
    said = " ".join(words)
    return said[0].upper() + said[1:]


def _times(cron: Cron) -> str:
    if len(cron.times) <= FEW:
        return f"at {_listed([f'{moment:%H:%M}' for moment in cron.times])}"
    minutes, hours = (sorted({getattr(it, unit) for it in cron.times}) for unit in ("minute", "hour"))
    every = _step(minutes, 60)
    if every is None:
        at = f"at {_listed([f':{minute:02}' for minute in minutes])}"
        return f"every hour {at}" if len(hours) == 24 else f"{at} {_of_hours(hours)}"
    said = "every minute" if every == 1 else f"every {every} minutes"
    return said if len(hours) == 24 else f"{said} {_of_hours(hours)}"


def _of_hours(hours: Sequence[int]) -> str:
    return f"of the hours {_listed(_runs(hours, [f'{hour:02}' for hour in range(24)]))}"


def _dates(dates: Sequence[int | str]) -> str:
    numbers = [day for day in dates if isinstance(day, int)]
    runs = _runs([day - 1 for day in numbers], [str(day) for day in range(1, 32)])
    return _listed([*([f"day {_listed(runs)}"] if runs else []), *(["the last day"] if "l" in dates else [])])


def _step(values: Sequence[int], count: int) -> int | None:
    """The step with which these values fill a field of so many, from 0 and evenly; None: they do not."""
    step = count // len(values)
    return step if list(values) == list(range(0, count, step)) and len(values) > 1 else None


def _runs(places: Sequence[int], names: Sequence[str]) -> list[str]:
    """The names at these places; three or more in a row as `Monday to Friday`."""
    said: list[str] = []
    run: list[int] = []
    for place in [*sorted(places), -1]:
        if run and place != run[-1] + 1:
            said += [f"{names[run[0]]} to {names[run[-1]]}"] if len(run) > 2 else [names[it] for it in run]
            run = []
        run.append(place)
    return said


def _listed(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
