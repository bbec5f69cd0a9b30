"""A mail inbox for development: takes mail for any recipient, and shows all of it on one web page and by IMAP."""

import http.client
import os
import signal
import socket
import sys
from pathlib import Path

from taskbell_devstack.ports import LOOPBACK
from taskbell_devstack.processes import Launch
from taskbell_devstack.state import InboxSettings

USER = "inbox@taskbell.test"
# Not a secret: the web page shows the same mail without a login to everybody on this machine.
PASSWORD = "inbox"  # noqa: S105 - see above


class Inbox:
    """mail-devel with one mailbox for everybody. It keeps mail in memory, so stopping it empties the inbox."""

    name = "inbox"
    start_limit = 30.0
    stop_limit = 10.0
    stop_signal = signal.SIGTERM
    quit_signal = signal.SIGKILL

    def __init__(self, settings: InboxSettings, directory: Path) -> None:
        self.settings = settings
        self.directory = directory
        self.log = directory / "log" / "inbox.log"

    def prepare(self) -> None:
        """Do nothing: the inbox keeps nothing on disk."""

    def launch(self) -> Launch:
        ports = [
            f"--{name}-port={port}"
            for name, port in (
                ("smtp", self.settings.smtp_port),
                ("imap", self.settings.imap_port),
                ("http", self.settings.http_port),
            )
        ]
        return Launch(
            name=self.name,
            argv=[
                sys.executable,
                "-m",
                "mail_devel",
                f"--host={LOOPBACK}",
                f"--user={USER}",
                f"--password={PASSWORD}",
                *ports,
            ],
            environment={"PATH": os.environ.get("PATH", ""), "PYTHONUNBUFFERED": "1", "LANG": "C.UTF-8"},
            directory=self.directory,
            log=self.log,
        )

    def accepts(self) -> bool:
        """Whether SMTP, IMAP and the web page all answer."""
        try:
            return (
                _greeting(self.settings.smtp_port).startswith(b"220")
                and _greeting(self.settings.imap_port).startswith(b"* OK")
                and _page_status(self.settings.http_port) == 200
            )
        except (OSError, http.client.HTTPException):
            return False

    def settle(self) -> None:
        """Do nothing: the inbox is ready once it accepts connections."""


def _greeting(port: int) -> bytes:
    with socket.create_connection((LOOPBACK, port), timeout=1) as client:
        return client.recv(64)


def _page_status(port: int) -> int:
    client = http.client.HTTPConnection(LOOPBACK, port, timeout=1)
    try:
        client.request("GET", "/")
        return client.getresponse().status
    finally:
        client.close()
