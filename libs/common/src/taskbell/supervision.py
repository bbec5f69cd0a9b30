"""Reports to systemd that this process is ready, still alive, or stopping (sd_notify(3), units with Type=notify).

Each message is one datagram to the socket that NOTIFY_SOCKET names; without that variable nothing is reported.
"""

import asyncio
import os
import socket
from collections.abc import Mapping

from taskbell.concurrency import first_of
from taskbell.health import Health

POLL = 1.0
"""Seconds between looks at the process's health."""

EXTENSION = 30
"""Seconds by which systemd extends its start timeout while the broker or the database is not there yet."""


class Supervision:
    """Reports health and liveness to systemd. Pings come from the event loop, so systemd notices if it hangs.

    Args:
        path: NOTIFY_SOCKET; a leading @ means the abstract namespace.
        watchdog: seconds within which systemd expects a ping (WATCHDOG_USEC); None: it expects none.
    """

    def __init__(self, health: Health, path: str, watchdog: float | None) -> None:
        self.name = "supervision"
        self._health = health
        self._address = "\0" + path[1:] if path.startswith("@") else path
        self.pause = POLL if watchdog is None else min(POLL, watchdog / 3)

    @classmethod
    def from_environment(cls, health: Health, environment: Mapping[str, str] = os.environ) -> "Supervision | None":
        """Reads what systemd asked for from the environment; None: systemd did not ask."""
        path = environment.get("NOTIFY_SOCKET")
        if not path:
            return None
        microseconds = environment.get("WATCHDOG_USEC", "")
        mine = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        return cls(health, path, int(microseconds) / 1e6 if microseconds.isdigit() and mine else None)

    async def run(self, stop: asyncio.Event) -> None:
        """Reports until `stop`, then reports that the process is stopping."""
        ready = False
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.setblocking(False)
            while not stop.is_set():
                lines = [f"STATUS={self._status()}", "WATCHDOG=1"]
                if not ready and self._health.ready:
                    ready = True
                    lines.append("READY=1")
                elif not ready:
                    lines.append(f"EXTEND_TIMEOUT_USEC={EXTENSION * 1_000_000}")
                self._send(notify, lines)
                await first_of(stop.wait(), timeout=self.pause)
            self._send(notify, ["STOPPING=1", "STATUS=draining"])

    def _status(self) -> str:
        report = self._health.report()
        troubled = [
            f"{part}: {condition.get('detail') or condition['state']}"
            for part, condition in report["parts"].items()
            if condition["state"] != "ready"
        ]
        return " ".join(f"{report['status']} {'; '.join(troubled)}".split())[:500]

    def _send(self, notify: socket.socket, lines: list[str]) -> None:
        try:
            notify.sendto("\n".join(lines).encode(), self._address)
        except OSError:
            return  # systemd's buffer is full, or systemd restarts: the next message repeats this one
