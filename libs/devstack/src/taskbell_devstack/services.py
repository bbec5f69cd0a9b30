"""Runs Taskbell's own services as processes on the stack's servers."""

import http.client
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from taskbell_devstack.ports import LOOPBACK
from taskbell_devstack.processes import Launch

STOP_LIMIT = 40.0  # seconds; a service takes up to 30 s to drain


@dataclass(frozen=True)
class ServiceProgram:
    """A program `python -m MODULE` that serves /readyz on HTTP_PORT, and its settings."""

    name: str
    module: str
    environment: dict[str, str]
    public: bool = False
    """Whether its own URL is its PUBLIC_URL, for links that lead back to it."""
    start_limit: float = 60.0
    python: str = sys.executable
    """The interpreter whose packages it runs on."""


class RunningService:
    """A service and its port."""

    stop_limit = STOP_LIMIT
    stop_signal = signal.SIGTERM
    quit_signal = signal.SIGKILL

    def __init__(self, service: ServiceProgram, port: int, directory: Path) -> None:
        self.name = service.name
        self.start_limit = service.start_limit
        self.log = directory / "log" / f"{service.name}.log"
        self._service = service
        self._port = port
        self._directory = directory

    def prepare(self) -> None:
        """Do nothing: a service keeps nothing on disk."""

    def launch(self) -> Launch:
        own = {"PATH": os.environ.get("PATH", ""), "LANG": "C.UTF-8", "PYTHONUNBUFFERED": "1"}
        address = {"HTTP_HOST": LOOPBACK, "HTTP_PORT": str(self._port)}
        if self._service.public:
            address["PUBLIC_URL"] = f"http://{LOOPBACK}:{self._port}"
        return Launch(
            name=self.name,
            argv=[self._service.python, "-m", self._service.module],
            environment=own | self._service.environment | address,
            # Not the checkout: the service must not read a `.env` that somebody keeps there for other servers.
            directory=self._directory,
            log=self.log,
        )

    def accepts(self) -> bool:
        """Whether `/readyz` answers 200."""
        client = http.client.HTTPConnection(LOOPBACK, self._port, timeout=2)
        try:
            client.request("GET", "/readyz")
            return client.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            client.close()

    def settle(self) -> None:
        """Do nothing: the service is ready."""
