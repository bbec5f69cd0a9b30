"""What installed packages ask for, in words, and which of them are granted it."""

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
    """Names that are not those of installed packages."""


def asks_for(package: Installed, app_schema: str) -> list[str]:
    """Each thing that a package asks for, in a few words: rights on tables, logins, who publishes its messages."""
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
    """Which packages are granted what they ask for: those that are named, and those to which the answer is yes.

    Args:
        named: names of packages, written as pip takes them: `Acme_Timesheets` is `acme-timesheets`.
        ask: called with each of the others and what it asks for; None: they are refused.
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
    """Those names that are not the name of a package that extends Taskbell and is installed."""
    packages = {_normal(package.package) for package in found}
    return [name for name in named if _normal(name) not in packages]


def told(choice: Choice, app_schema: str) -> tuple[list[str], list[str]]:
    """Sentences about the packages that are granted, and about those that are left out."""
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
