"""Kinds of mail whose own statement PostgreSQL refuses: their mailings wait, and no others."""

from collections.abc import Sequence

from sqlalchemy.exc import DBAPIError

from taskbell.health import Health
from taskbell.kinds import Kind, Statement
from taskbell_notifier.kinds.pauses import Pauses
from taskbell_notifier.repository.statements import StatementError, refusal

PAUSE = 10.0
"""Seconds until such a statement is first tried again: an operator has to fix the cause."""


class Refusals:
    """The kinds whose statement was refused. Readiness shows each as a part that is degraded, with the reason."""

    def __init__(self, health: Health) -> None:
        self._health = health
        self._pauses = Pauses(PAUSE)

    def kinds(self) -> Sequence[str]:
        """The kinds that are not tried now."""
        return self._pauses.waiting()

    def add(self, kind: Kind, error: DBAPIError | StatementError, *, took: float) -> None:
        """The statement of that kind was refused after so many seconds.

        Raises:
            DBAPIError: the same, if the kind has no statement of its own.
        """
        if not isinstance(kind.who, Statement):
            raise error
        if isinstance(error, StatementError):
            detail = str(error)
        else:
            detail = f"PostgreSQL refuses the statement that says who gets {kind.name} mails: {refusal(kind, error)}"
        self._health.set(_part(kind.name), "degraded", detail)
        self._pauses.add(kind.name, detail, took=took)

    def over(self, kind: str) -> None:
        """A page of that kind was planned, or no mailing of it is left to plan."""
        if self._pauses.over(kind):
            self._health.set(_part(kind), "ready")

    def nothing_left(self) -> None:
        """No mailing is left to plan, unless its kind is not tried now."""
        for kind in self._pauses.tried():
            self.over(kind)


def _part(kind: str) -> str:
    return f"planner of {kind}"
