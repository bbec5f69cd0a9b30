"""Shows what runs, with every URL and login: as JSON with fixed names for programs, as tables for people."""

from typing import Self

from pydantic import BaseModel
from rich.console import Console
from rich.table import Table

from taskbell_devstack import inbox, rabbitmq
from taskbell_devstack.ports import LOOPBACK
from taskbell_devstack.stack import Stack

WIDEST = 240  # characters; a narrower terminal wraps the line, which can still be copied whole


class ServiceStatus(BaseModel):
    """A running service of Taskbell."""

    pid: int
    http_url: str


class StackStatus(BaseModel):
    """The running part of a stack; null for servers that do not run. The URLs contain the logins."""

    database_url: str | None = None
    broker_url: str | None = None
    broker_management_url: str | None = None
    inbox_url: str | None = None
    mail_server: str | None = None
    mail_port: int | None = None
    imap_port: int | None = None
    services: dict[str, ServiceStatus] = {}

    @classmethod
    def of(cls, stack: Stack) -> Self:
        """The present status of that stack."""
        state = stack.state
        status = cls(
            services={
                name: ServiceStatus(pid=state.processes[name].pid, http_url=service.url)
                for name, service in state.services.items()
                if stack.runs(name)
            }
        )
        if state.postgresql and stack.runs("postgresql"):
            status.database_url = state.postgresql.url
        if state.rabbitmq and stack.runs("rabbitmq"):
            status.broker_url = state.rabbitmq.url
            status.broker_management_url = state.rabbitmq.management_url
        if state.inbox and stack.runs("inbox"):
            status.inbox_url = state.inbox.url
            status.mail_server = LOOPBACK
            status.mail_port = state.inbox.smtp_port
            status.imap_port = state.inbox.imap_port
        return status

    @property
    def servers_run(self) -> bool:
        """Whether all three servers run."""
        return None not in (self.database_url, self.broker_url, self.inbox_url)


def show(status: StackStatus, stack: Stack) -> None:
    """Print what runs, with URLs and logins. Lines are never cut, so that they can be copied."""
    console = Console(width=WIDEST)
    parts = [_servers(status, stack)] + ([_services(status)] if status.services else [])
    for table in parts:
        console.print(table)


def _servers(status: StackStatus, stack: Stack) -> Table:
    state = stack.state
    table = Table("server", "where", "login", title="Servers", title_justify="left", box=None, pad_edge=False)

    def add(server: str, where: str | None, login: str = "") -> None:
        table.add_row(server, where or "[red]not running[/red]", login if where else "")

    if state.postgresql:
        add("PostgreSQL", status.database_url)
    if state.rabbitmq:
        page = f"http://{LOOPBACK}:{state.rabbitmq.management_port}/"
        add("RabbitMQ", status.broker_url)
        add("RabbitMQ, web page", status.broker_url and page, f"{rabbitmq.USER} / {state.rabbitmq.password}")
    if state.inbox:
        add("inbox, web page", status.inbox_url, "none")
        add("inbox, SMTP", _address(status.mail_port), "none")
        add(
            "inbox, IMAP",
            _address(status.imap_port),
            f"{inbox.USER} / {inbox.PASSWORD}",
        )
    return table


def _address(port: int | None) -> str | None:
    return f"{LOOPBACK}:{port}" if port else None


def _services(status: StackStatus) -> Table:
    table = Table("service", "process", "where", title="Services", title_justify="left", box=None, pad_edge=False)
    for name, service in status.services.items():
        table.add_row(name, str(service.pid), f"{service.http_url}/readyz")
    return table
