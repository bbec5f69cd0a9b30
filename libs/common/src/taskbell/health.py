"""The state of a process and its parts: `/readyz` shows it, and each change is logged."""

from dataclasses import dataclass
from typing import Any, Literal

from taskbell.logs import logger

Readiness = Literal["ready", "waiting", "degraded"]
"""waiting: cannot work, `/readyz` answers 503. degraded: works in part, `/readyz` still answers 200."""


@dataclass(frozen=True, slots=True)
class PartState:
    """The state of one part of a process, and why."""

    state: Readiness
    detail: str = ""


class Health:
    """The states of a process's parts.

    Args:
        owner: the service whose parts these are, if several share a process; the parts' names then begin with it.
    """

    def __init__(self, owner: str = "") -> None:
        self._prefix = f"{owner} " if owner else ""
        self._states: dict[str, PartState] = {}
        self._log = logger("health")

    def of(self, owner: str) -> "Health":
        """The same states, for the parts of one service in a process of several."""
        part = Health(owner)
        part._states = self._states
        return part

    def expect(self, *parts: str) -> None:
        """Names parts that must report before the process counts as ready."""
        for part in parts:
            self._states.setdefault(self._prefix + part, PartState("waiting", "starting"))

    def set(self, part: str, state: Readiness, detail: str = "") -> None:
        """Reports the state of a part; a change is logged."""
        part = self._prefix + part
        before = self._states.get(part)
        now = PartState(state, detail)
        if before == now:
            return
        self._states[part] = now
        if before is None or before.state != state or state != "ready":
            log = self._log.info if state == "ready" else self._log.warning
            log(f"health.{state}", part=part, detail=detail)

    @property
    def ready(self) -> bool:
        """Whether the process can do its work: no part is waiting."""
        return all(it.state != "waiting" for it in self._states.values())

    def report(self) -> dict[str, Any]:
        """The body of `/readyz`."""
        states = {it.state for it in self._states.values()}
        status = next((state for state in ("waiting", "degraded") if state in states), "ready")
        parts = {
            part: {"state": it.state} | ({"detail": it.detail} if it.detail else {})
            for part, it in sorted(self._states.items())
        }
        return {"status": status, "parts": parts}
