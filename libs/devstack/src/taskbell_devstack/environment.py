"""The settings that Taskbell's programs get on a stack: those of the administrator, and those of each role."""

import hashlib
from collections.abc import Mapping

from taskbell.setup.privileges import ROLES, login
from taskbell_devstack.ports import LOOPBACK
from taskbell_devstack.services import ServiceProgram
from taskbell_devstack.state import StackState

REPORTS_GO_TO = "reports@example.org"
SERVICES = ("scheduler", "notifier", "maintenance")

_MAIL = ("MAIL_SERVER", "MAIL_PORT", "MAIL_DEFAULT_SENDER", "REPORT_RECIPIENTS", "SECRET_KEY", "APP_URL")
_READS: Mapping[str, tuple[str, ...]] = {"notifier": _MAIL, "operator": ("APP_URL",)}
"""What a role's program reads besides its URLs and the time zone. No other gets it."""


def environment(state: StackState) -> dict[str, str]:
    """The administrator's settings, with which every command works, also `taskbell setup`. Mail goes to the inbox.

    `taskbell setup` makes the roles of `environment_of` with the passwords among them.
    """
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
        **{f"{role.upper()}_DATABASE_PASSWORD": _password(role, state.postgresql.password) for role in ROLES},
        **{f"{role.upper()}_BROKER_PASSWORD": _password(role, state.rabbitmq.password) for role in ROLES},
    }


def environment_of(role: str, state: StackState) -> dict[str, str]:
    """The settings of one role's programs, such as `scheduler` or `operator`: its own logins, and what it reads."""
    assert state.postgresql is not None
    assert state.rabbitmq is not None
    every = environment(state)
    return {
        "DATABASE_URL": state.postgresql.url_of(login(role), _password(role, state.postgresql.password)),
        "BROKER_URL": state.rabbitmq.url_of(login(role), _password(role, state.rabbitmq.password)),
        **{name: every[name] for name in ("TIMEZONE", *_READS.get(role, ()))},
    }


def services(state: StackState) -> list[ServiceProgram]:
    """The three services of Taskbell, each under its own role."""
    return [
        ServiceProgram(name, f"taskbell_{name}", environment_of(name, state), public=name == "notifier")
        for name in SERVICES
    ]


def _password(role: str, administrators: str) -> str:
    """A role's password: the same after each restart, and it tells nobody the administrator's."""
    return hashlib.sha256(f"{role} {administrators}".encode()).hexdigest()
