"""Which expression comes nearest to a step that its field cannot hold, such as every 90 minutes."""

from collections.abc import Sequence

_FREE = frozenset({"*", "?"})
_HOURS = (1, 2, 3, 4, 6, 8, 12, 24)
_DAYS = (1, 2, 3, 4, 5, 6, 7, 10, 15, 30)
_MONTHS = (1, 2, 3, 4, 6, 12)


def every(field: int, step: int, words: Sequence[str]) -> str | None:
    """The expression that comes nearest to a step of so many minutes, hours or days.

    Args:
        field: the place of the step in the expression, from 0.
        words: the five fields of the expression.

    Returns:
        None: there is none that says more than the first value alone, or later fields say that it is not every hour,
        day or month.
    """
    if not all(word in _FREE for word in words[field + 1 :]):
        return None
    match field:
        case 0:
            return _hours(step / 60)
        case 1:
            return _days(step / 24, words[0])
        case 2:
            return _months(step / 30, f"{words[0]} {words[1]}")
        case _:
            return None


def _hours(wanted: float) -> str:
    hours = _nearest(wanted, _HOURS)
    if hours == _HOURS[-1]:
        return _days(wanted / 24, "0")
    return f"0 {_stepped(hours)} * * *"


def _days(wanted: float, minute: str) -> str:
    days = _nearest(wanted, _DAYS)
    if days == _DAYS[-1]:
        return _months(wanted / 30, f"{minute} 0")
    return f"{minute} 0 {_stepped(days)} * *"


def _months(wanted: float, moment: str) -> str:
    months = _nearest(wanted, _MONTHS)
    return f"{moment} 1 {'1' if months == _MONTHS[-1] else _stepped(months)} *"


def _stepped(step: int) -> str:
    return "*" if step == 1 else f"*/{step}"


def _nearest(wanted: float, choices: Sequence[int]) -> int:
    """The choice that is nearest; of two that are as near, the larger."""
    return min(choices, key=lambda it: (abs(it - wanted), -it))
