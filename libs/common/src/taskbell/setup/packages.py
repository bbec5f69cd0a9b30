"""Describes what installed packages ask for, and chooses which of them get it."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from taskbell.extensions import Installed
from taskbell.setup.privileges import login


@dataclass(frozen=True, slots=True)
class Choice:
    """Which of the installed packages get what they ask for."""

    granted: Sequence[Installed] = ()
    refused: Sequence[Installed] = ()
    unknown: Sequence[str] = ()
    """Names of packages that are not installed."""


def asks_for(package: Installed, app_schema: str) -> list[str]:
    """What a package asks for, in words: rights on tables, logins, and who may publish its messages."""
    extension = package.extension
    wishes = [
        f"{login(grant.role)} may {', '.join(grant.privileges)} on {resolved(grant.table, app_schema)}"
        for grant in extension.grants
    ]
    for service in package.services:
        queues = [it.queue for it in extension.messages if it.consumer == service]
        queues += [it.queue for it in extension.listens if it.consumer == service]
        wishes.append(
            f"a login {login(service)}, which consumes {', '.join(it for it in queues if it)} and publishes what "
            "anyone may"
        )
    for message in extension.messages:
        publishers = [login(role) for role in message.published_by]
        if message.by_anyone:
            publishers.insert(0, "anyone")
        wishes.append(f"{' and '.join(publishers or ['schedules alone'])} may publish {message.routing_key}")
    return wishes


def resolved(table: str, app_schema: str) -> str:
    """The table of a grant with the web app's schema in place of `app`."""
    schema, _, name = table.partition(".")
    return f"{app_schema if schema == 'app' else schema}.{name}"


def choose(
    found: Iterable[Installed],
    named: Iterable[str],
    app_schema: str,
    ask: Callable[[Installed, Sequence[str]], bool] | None = None,
) -> Choice:
    """Chooses the packages that get what they ask for: those that are named, and those for which `ask` returns True.

    Args:
        named: names of packages, compared as pip does: `Acme_Timesheets` is `acme-timesheets`.
        ask: called with each other package and what it asks for; None: those are refused.
    """
    packages = {_normal(package.package): package for package in found}
    wanted = {_normal(name): name for name in named}
    granted: list[Installed] = []
    refused: list[Installed] = []
    for name, package in packages.items():
        wishes = asks_for(package, app_schema)
        yes = name in wanted or not wishes or (ask is not None and ask(package, wishes))
        (granted if yes else refused).append(package)
    return Choice(granted, refused, unknown(packages.values(), wanted.values()))


def unknown(found: Iterable[Installed], named: Iterable[str]) -> list[str]:
    """The names to which no installed package that extends Taskbell belongs."""
    packages = {_normal(package.package) for package in found}
    return [name for name in named if _normal(name) not in packages]


def sentences(choice: Choice, app_schema: str) -> tuple[list[str], list[str]]:
    """Sentences about the packages that get what they ask for, and about those that do not."""
    done = [
        f"package {_versioned(package)} is granted: {'; '.join(wishes)}"
        for package in choice.granted
        if (wishes := asks_for(package, app_schema))
    ]
    left_out = [
        f"package {_versioned(package)}, which asks that {'; '.join(asks_for(package, app_schema))}: "
        f"`taskbell setup --grant {package.package}` or SETUP_GRANT={package.package} grants it"
        for package in choice.refused
    ]
    left_out += [f"package {name}, which is to be granted its rights: it is not installed" for name in choice.unknown]
    return done, left_out


def _versioned(package: Installed) -> str:
    return f"{package.package} {package.version}".rstrip()


def _normal(name: str) -> str:
    """A distribution's name as pip compares names (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()
