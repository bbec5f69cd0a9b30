"""The kinds of mail that come with Taskbell, as tests name them."""

from dataclasses import replace

from taskbell_notifier.kinds.table import OWN, Kinds

KINDS = Kinds(OWN)
REMINDER, OVERDUE, WEEKLY, REPORT, TEST = (KINDS[it] for it in ("reminder", "overdue", "weekly", "report", "test"))
MAILINGS = KINDS.planned

FOREIGN = replace(REMINDER, name="stand_up", unsubscribe="stand_up")
"""As a package would bring it: its unsubscribe code is its name."""


def name(kind: object) -> str:
    """For `ids` of parametrized tests."""
    return str(getattr(kind, "name", kind))
