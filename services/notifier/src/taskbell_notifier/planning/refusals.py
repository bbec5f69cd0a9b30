"""Kinds of mail whose own statement PostgreSQL refuses: their mailings wait, and no others."""

import asyncio
from collections.abc import Sequence

from sqlalchemy.exc import DBAPIError

from taskbell.health import Health
from taskbell.kinds import Kind, Statement
from taskbell_notifier.repository.statements import refusal

PAUSE = 10.0
"""Seconds until such a statement is tried again: an operator has to fix the cause."""

SHARE = 5
"""A statement that took long, perhaps until it was cancelled, also waits for so many times as long."""


class Refusals:
    """The kinds whose statement was refused. Readiness shows each as a part that is degraded, with the reason."""

    def __init__(self, health: Health) -> None:
        self._health = health
        self._until: dict[str, float] = {}
        """By kind, the event loop's time at which it is tried again."""

    def kinds(self) -> Sequence[str]:
        """The kinds that are not tried now."""
        now = asyncio.get_running_loop().time()
        return [kind for kind, until in self._until.items() if until > now]

    def add(self, kind: Kind, error: DBAPIError, *, took: float) -> None:
        """The statement of that kind was refused after so many seconds.

        Raises:
            DBAPIError: the same, if the kind has no statement of its own.
        """
        if not isinstance(kind.who, Statement):
            raise error
        detail = f"PostgreSQL refuses the statement that says who gets {kind.name} mails: {refusal(kind, error)}"
        self._health.set(_part(kind.name), "degraded", detail)
        self._until[kind.name] = asyncio.get_running_loop().time() + PAUSE + SHARE * took

    def over(self, kind: str) -> None:
        """A page of that kind was planned, or no mailing of it is left to plan."""
        if self._until.pop(kind, None) is not None:
            self._health.set(_part(kind), "ready")

    def nothing_left(self) -> None:
        """No mailing is left to plan, unless its kind is not tried now."""
        waiting = self.kinds()
        for kind in [it for it in self._until if it not in waiting]:
            self.over(kind)


def _part(kind: str) -> str:
    return f"planner of {kind}"
