"""The settings that Taskbell's programs get on a stack."""

import hashlib

from taskbell_devstack.ports import LOOPBACK
from taskbell_devstack.services import ServiceProgram
from taskbell_devstack.state import StackState

REPORTS_GO_TO = "reports@example.org"


def environment(state: StackState) -> dict[str, str]:
    """The settings of all of Taskbell's programs on this stack. Mail goes to the inbox."""
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
        # The same after each restart, so that the links in mails that were sent still work.
        "SECRET_KEY": hashlib.sha256(f"mail {state.postgresql.password}".encode()).hexdigest(),
    }


def services(state: StackState) -> list[ServiceProgram]:
    """The three services of Taskbell."""
    settings = environment(state)
    return [
        ServiceProgram(name, f"taskbell_{name}", settings, public=name == "notifier")
        for name in ("scheduler", "notifier", "maintenance")
    ]
