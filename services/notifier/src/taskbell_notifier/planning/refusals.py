"""Kinds of mail whose own statement PostgreSQL refuses: their mailings wait, and nobody else's."""

import asyncio
from collections.abc import Sequence

from sqlalchemy.exc import DBAPIError

from taskbell.catalogue import package_of, row_of
from taskbell.database import INSUFFICIENT_PRIVILEGE, sqlstate
from taskbell.health import Health
from taskbell.kinds import Kind, Statement

PAUSE = 30.0
"""Seconds until such a statement is tried again: an operator has to fix the cause."""


class Refusals:
    """What was refused, as readiness shows it: degraded, one part for each kind."""

    def __init__(self, health: Health) -> None:
        self._health = health
        self._until: dict[str, float] = {}
        """By kind, the event loop's time at which it is tried again."""

    def kinds(self) -> Sequence[str]:
        """Those that are not tried now."""
        now = asyncio.get_running_loop().time()
        return [kind for kind, until in self._until.items() if until > now]

    def add(self, kind: Kind, error: DBAPIError) -> None:
        """The statement of that kind was refused. One by conditions has none of its own: the error is raised again."""
        if not isinstance(kind.who, Statement):
            raise error
        said = str(error.orig).partition("\n")[0][:300]
        detail = f"PostgreSQL refuses the statement that says who gets {kind.name} mails: {said}"
        if sqlstate(error) == INSUFFICIENT_PRIVILEGE:
            package = package_of(row_of(kind.event).routing_key)
            detail += f"; `taskbell setup --grant {package}` grants what package {package} asks for"
        self._health.set(_part(kind.name), "degraded", detail)
        self._until[kind.name] = asyncio.get_running_loop().time() + PAUSE

    def over(self, kind: str) -> None:
        """A page of that kind was planned, or there is none left to plan."""
        if self._until.pop(kind, None) is not None:
            self._health.set(_part(kind), "ready")

    def nothing_left(self) -> None:
        """No mailing waits to be planned, unless it is of a kind that is not tried now."""
        waiting = self.kinds()
        for kind in [it for it in self._until if it not in waiting]:
            self.over(kind)


def _part(kind: str) -> str:
    return f"planner of {kind}"
