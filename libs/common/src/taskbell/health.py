"""What a process says of itself: `/readyz` shows it, logs tell each change."""

from dataclasses import dataclass
from typing import Any, Literal

from taskbell.logs import logger

State = Literal["ready", "waiting", "degraded"]
"""waiting: cannot work, readiness is red. degraded: works in part, readiness stays green."""


@dataclass(frozen=True, slots=True)
class Condition:
    """The state of one part of a process, and why."""

    state: State
    detail: str = ""


class Health:
    """The conditions of a process's parts.

    Args:
        owner: whose parts these are, where several services share a process; their names then begin with it.
    """

    def __init__(self, owner: str = "") -> None:
        self._prefix = f"{owner} " if owner else ""
        self._conditions: dict[str, Condition] = {}
        self._log = logger("health")

    def of(self, owner: str) -> "Health":
        """The same conditions, for the parts of one service of several."""
        part = Health(owner)
        part._conditions = self._conditions
        return part

    def expect(self, *parts: str) -> None:
        """Names parts that must report before the process counts as ready."""
        for part in parts:
            self._conditions.setdefault(self._prefix + part, Condition("waiting", "starting"))

    def set(self, part: str, state: State, detail: str = "") -> None:
        """Reports the state of a part; a change is logged."""
        part = self._prefix + part
        before = self._conditions.get(part)
        now = Condition(state, detail)
        if before == now:
            return
        self._conditions[part] = now
        if before is None or before.state != state or state != "ready":
            log = self._log.info if state == "ready" else self._log.warning
            log(f"health.{state}", part=part, detail=detail)

    @property
    def ready(self) -> bool:
        """Can the process do its work?"""
        return all(condition.state != "waiting" for condition in self._conditions.values())

    def report(self) -> dict[str, Any]:
        """The body of `/readyz`."""
        states = {condition.state for condition in self._conditions.values()}
        status = next((state for state in ("waiting", "degraded") if state in states), "ready")
        parts = {
            part: {"state": condition.state} | ({"detail": condition.detail} if condition.detail else {})
            for part, condition in sorted(self._conditions.items())
        }
        return {"status": status, "parts": parts}
