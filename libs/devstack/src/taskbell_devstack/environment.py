"""The settings with which Taskbell's programs run on a stack."""

import hashlib

from taskbell_devstack.ports import LOOPBACK
from taskbell_devstack.services import Service
from taskbell_devstack.state import StackState

REPORTS_GO_TO = "reports@example.org"


def environment(state: StackState) -> dict[str, str]:
    """What all of Taskbell's programs get here; mail goes to the inbox."""
    assert state.postgresql is not None
    assert state.rabbitmq is not None
    assert state.inbox is not None
    return {
        "DATABASE_URL": state.postgresql.url,
        "BROKER_URL": state.rabbitmq.url,
        "BROKER_MANAGEMENT_URL": state.rabbitmq.management_url,
        "TIMEZONE": "UTC",
        "APP_URL": "http://localhost:5000",
        "MAIL_SERVER": LOOPBACK,
        "MAIL_PORT": str(state.inbox.smtp_port),
        "MAIL_DEFAULT_SENDER": "Taskbell <taskbell@example.org>",
        "REPORT_RECIPIENTS": REPORTS_GO_TO,
        # The same after each restart, so that the links in mails that were sent go on working.
        "SECRET_KEY": hashlib.sha256(f"mail {state.postgresql.password}".encode()).hexdigest(),
    }


def services(state: StackState) -> list[Service]:
    """The three services."""
    settings = environment(state)
    return [
        Service(name, f"taskbell_{name}", settings, public=name == "notifier")
        for name in ("scheduler", "notifier", "maintenance")
    ]
