"""docker compose as the tests use it: one project, under a name and on ports of its own."""

import json
import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


class Compose:
    """One compose project of this checkout."""

    def __init__(self, project: str, *files: str, profiles: Sequence[str] = (), **variables: str) -> None:
        self.project = project
        self._command = ["docker", "compose", "--project-name", project, "--project-directory", str(ROOT)]
        # A `.env` that somebody keeps for a stack of their own must not decide about tests.
        self._command += ["--env-file", os.devnull]
        for file in ("docker-compose.yml", *files):
            self._command += ["--file", str(ROOT / file)]
        for profile in profiles:
            self._command += ["--profile", profile]
        ports = ("POSTGRES", "RABBITMQ", "RABBITMQ_MANAGEMENT", "NOTIFIER", "NOTIFIER_HTTP", "MAILPIT")
        ports += ("PROMETHEUS", "GRAFANA")
        self._environment = os.environ | {f"{name}_PORT": "0" for name in ports} | variables

    def __call__(self, *arguments: str, check: bool = True, limit: float = 300.0) -> str:
        """What a compose command prints; fails the test with what it said where it fails."""
        done = subprocess.run(
            [*self._command, *arguments],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=limit,
        )
        if check and done.returncode:
            raise AssertionError(f"docker compose {' '.join(arguments)}: {done.stdout}\n{done.stderr}\n{self.said()}")
        return done.stdout

    def up(self, *arguments: str) -> None:
        """Everything, built and healthy."""
        self("up", "--build", "--wait", "--quiet-pull", *arguments, limit=900)

    def remove(self) -> None:
        """Takes it all away again, data included."""
        self("down", "--volumes", "--remove-orphans", "--timeout", "40")

    def said(self) -> str:
        """The end of what the containers logged."""
        return self("logs", "--no-color", "--tail", "40", check=False)

    def ids(self, service: str) -> list[str]:
        """The containers of a service, stopped ones too."""
        return self("ps", "--all", "--quiet", service).split()

    def inspect(self, service: str) -> list[dict[str, Any]]:
        """What the engine knows of them; fails where there is none."""
        ids = self.ids(service)
        assert ids, f"no container of {service}: {self.said()}"
        done = subprocess.run(["docker", "inspect", *ids], capture_output=True, check=True)
        found: list[dict[str, Any]] = json.loads(done.stdout)
        return found

    def port(self, service: str, port: int) -> int:
        """Where that port of the first container is on this machine's loopback address."""
        address, _, number = self("port", service, str(port)).strip().rpartition(":")
        assert address == "127.0.0.1"
        return int(number)

    def sql(self, statement: str) -> list[list[str]]:
        """The rows that PostgreSQL's administrator gets, as texts."""
        psql = ["psql", "-v", "ON_ERROR_STOP=1", "-qtAX", "-F", "\t", "-U", "taskbell", "-d", "taskbell"]
        printed = self("exec", "-T", "postgres", *psql, "-c", statement)
        return [line.split("\t") for line in printed.splitlines()]

    def taskbell(self, *arguments: str, service: str = "maintenance") -> str:
        """What a `taskbell` command prints in a service's container."""
        return self("exec", "-T", service, "taskbell", *arguments)

    def stop_gently(self, container: str) -> float:
        """Stops one container by SIGTERM; the seconds that it took to end by itself, with status 0."""
        began = time.monotonic()
        subprocess.run(["docker", "kill", "--signal", "SIGTERM", container], capture_output=True, check=True)
        # Waits for its end, and never kills it: a container that does not stop fails the test.
        status = subprocess.run(["docker", "wait", container], capture_output=True, text=True, check=True, timeout=60)
        assert status.stdout.strip() == "0", f"ended with {status.stdout.strip()}: {self.said()}"
        return time.monotonic() - began

    def start(self, container: str) -> None:
        """Starts a stopped container, and waits until it is healthy."""
        subprocess.run(["docker", "start", container], capture_output=True, check=True)
        deadline = time.monotonic() + 120
        health = ["docker", "inspect", "--format", "{{.State.Health.Status}}", container]
        while subprocess.run(health, capture_output=True, text=True, check=True).stdout.strip() != "healthy":
            assert time.monotonic() < deadline, f"not healthy again: {self.said()}"

    def settle(self) -> None:
        """Everything healthy, in as many copies as the files say."""
        self("up", "--detach", "--wait", "--no-recreate")
