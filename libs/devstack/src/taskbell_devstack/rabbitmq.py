"""A private RabbitMQ with its management UI and its Erlang port mapper, only on the loopback address."""

import base64
import http.client
import json
import os
import re
import secrets
import signal
import socket
from pathlib import Path
from typing import Any

from taskbell_devstack.errors import DevstackError
from taskbell_devstack.ports import LOOPBACK, answers
from taskbell_devstack.processes import Launch
from taskbell_devstack.programs import RabbitmqPrograms, find_rabbitmq
from taskbell_devstack.state import RabbitmqSettings

OLDEST = (3, 10)
USER = "taskbell"
CONFIGURATION = """\
listeners.tcp.1 = {host}:{port}
management.tcp.ip = {host}
management.tcp.port = {management_port}
default_user = {user}
default_pass = {password}
disk_free_limit.absolute = 50MB
max_message_size = 4194304
vm_memory_high_watermark.absolute = 1GB
raft.wal_max_size_bytes = 67108864
collect_statistics_interval = 1000
log.file = false
log.console = true
log.console.level = info
"""
# Each connection is an open file, and the usual limit of 1024 is soon reached. If the hard limit is lower, it stays.
MORE_FILES = 'ulimit -S -n 65536 2>/dev/null; exec "$@"'
# In 3.10, at-least-once dead-lettering from quorum queues needs this flag; in later versions it is always on.
NEEDED_FLAG = "stream_queue"


class PortMapper:
    """epmd on its own port, so that the broker neither uses another epmd nor leaves one running."""

    name = "epmd"
    start_limit = 10.0
    stop_limit = 5.0
    stop_signal = quit_signal = signal.SIGTERM

    def __init__(self, settings: RabbitmqSettings, directory: Path) -> None:
        self.settings = settings
        self.log = directory / "log" / "epmd.log"

    def prepare(self) -> None:
        """Do nothing: the port mapper keeps nothing on disk."""

    def launch(self) -> Launch:
        return Launch(
            name=self.name,
            argv=[_programs().epmd, "-address", LOOPBACK, "-port", str(self.settings.epmd_port)],
            environment={"PATH": "/usr/bin:/bin"},
            directory=Path("/"),
            log=self.log,
        )

    def accepts(self) -> bool:
        return answers(self.settings.epmd_port)

    def settle(self) -> None:
        """Do nothing: the port mapper is ready once it accepts connections."""


class Rabbitmq:
    """One broker with one administrator, called taskbell."""

    name = "rabbitmq"
    start_limit = 90.0
    stop_limit = 40.0
    stop_signal = signal.SIGTERM
    quit_signal = signal.SIGKILL

    def __init__(self, settings: RabbitmqSettings, directory: Path) -> None:
        self.settings = settings
        self.log = directory / "log" / "rabbitmq.log"

    def prepare(self) -> None:
        """Write its configuration with its ports, and the first time also the cookie that its tools need."""
        home = self.settings.home
        home.mkdir(parents=True, exist_ok=True)
        home.chmod(0o700)
        configuration = CONFIGURATION.format(
            host=LOOPBACK,
            user=USER,
            **self.settings.model_dump(include={"port", "management_port", "password"}),
        )
        (home / "rabbitmq.conf").write_text(configuration)
        (home / "enabled_plugins").write_text("[rabbitmq_management].\n")
        (home / "empty").touch()
        cookie = home / ".erlang.cookie"
        if not cookie.exists():
            cookie.write_text(secrets.token_hex(20))
            cookie.chmod(0o400)

    def launch(self) -> Launch:
        home = self.settings.home
        environment = {
            "PATH": f"{os.environ.get('PATH', '')}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(home),  # RabbitMQ looks for the cookie there
            "LANG": "C.UTF-8",
            "ERL_EPMD_ADDRESS": LOOPBACK,
            "ERL_EPMD_PORT": str(self.settings.epmd_port),
            "ERL_CRASH_DUMP_SECONDS": "0",
            "RABBITMQ_NODENAME": "taskbell@localhost",
            "RABBITMQ_DIST_PORT": str(self.settings.distribution_port),
            "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(home / "none"),
            "RABBITMQ_CONF_ENV_FILE": str(home / "empty"),  # else it would read the system's, which sets other ports
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(home / "data"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(home / "generated"),
            "RABBITMQ_PLUGINS_EXPAND_DIR": str(home / "plugins"),
            "RABBITMQ_LOG_BASE": str(home / "log"),
            "RABBITMQ_LOGS": "-",
            # The script becomes the broker instead of staying its parent, so there is one process to record and signal.
            "RABBITMQ_ALLOW_INPUT": "1",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        }
        return Launch(
            name=self.name,
            argv=["/bin/sh", "-c", MORE_FILES, self.name, _programs().server, "-noinput"],
            environment=environment,
            directory=home,
            log=self.log,
        )

    def accepts(self) -> bool:
        """Whether it answers AMQP clients and its management API."""
        try:
            return greets(LOOPBACK, self.settings.port) and self._ask("GET", "/api/overview") is not None
        except (OSError, http.client.HTTPException):
            return False

    def settle(self) -> None:
        """Check that the broker is new enough, and enable the feature flag that the topology needs.

        Raises DevstackError if the broker is too old.
        """
        overview = self._ask("GET", "/api/overview") or {}
        version = overview.get("rabbitmq_version", "")
        numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
        if numbers < OLDEST:
            raise DevstackError(f"RabbitMQ {version} is too old: install 3.10 or newer")
        flags = self._ask("GET", "/api/feature-flags") or []
        if any(flag["name"] == NEEDED_FLAG and flag["state"] == "disabled" for flag in flags):
            self._ask("PUT", f"/api/feature-flags/{NEEDED_FLAG}/enable", {"name": NEEDED_FLAG})

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        """The answer's JSON; None if the status is not a success, an empty dict if the body is empty."""
        login = base64.b64encode(f"{USER}:{self.settings.password}".encode()).decode()
        client = http.client.HTTPConnection(LOOPBACK, self.settings.management_port, timeout=5)
        try:
            headers = {"Authorization": f"Basic {login}", "Content-Type": "application/json"}
            client.request(method, path, None if body is None else json.dumps(body), headers)
            answer = client.getresponse()
            text = answer.read()
        finally:
            client.close()
        if answer.status >= 300:
            return None
        return json.loads(text) if text else {}


def greets(host: str, port: int) -> bool:
    """Whether the broker accepts connections: it answers an AMQP client's first bytes."""
    try:
        with socket.create_connection((host, port), timeout=1) as client:
            client.sendall(b"AMQP\x00\x00\x09\x01")
            return client.recv(1) == b"\x01"
    except OSError:
        return False


def _programs() -> RabbitmqPrograms:
    programs = find_rabbitmq()
    if programs is None:
        raise DevstackError("RabbitMQ was not found: install it")
    return programs
