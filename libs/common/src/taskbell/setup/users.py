"""RabbitMQ users and their permissions, applied by `taskbell setup` through the management API.

AMQP cannot make users: only the management API and rabbitmqctl can.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from taskbell.extensions import Installed, installed
from taskbell.setup.management import ManagementApi
from taskbell.setup.privileges import PACKAGE_TAG, Access, Passwords, access_of, keys_in, login
from taskbell.setup.report import SetupReport


async def apply_users(api: ManagementApi, passwords: Passwords, granted: Sequence[Installed] = ()) -> SetupReport:
    """Makes or updates the users whose passwords are given, with exactly the permissions of this version.

    Args:
        passwords: of our roles and of the services of packages that are granted.
    """
    lost: dict[frozenset[str], list[str]] = {}
    left_out: list[str] = []
    made: list[str] = []
    for role, password in passwords.items():
        access = access_of(role, granted)
        if access.tags.startswith(PACKAGE_TAG) and await _is_foreign(api, login(role)):
            left_out.append(
                f"RabbitMQ user {login(role)} for {access.tags.replace(':', ' ')}: there is one that setup has not "
                f"made. If it is the package's, say so: `rabbitmqctl set_user_tags {login(role)} {access.tags}`"
            )
            continue
        if keys := await _keys(api, login(role)) - _named(access.topics):
            lost.setdefault(frozenset(keys), []).append(login(role))
        await _apply(api, login(role), password, access)
        made.append(login(role))
    done = [f"RabbitMQ: the users {', '.join(made)} are there, with their permissions"] if made else []
    taken = [
        f"RabbitMQ: took the right to publish {', '.join(sorted(keys))} from {', '.join(names)}"
        for keys, names in lost.items()
    ]
    return SetupReport([*done, *taken], left_out) + await _retire(api, granted)


async def _is_foreign(api: ManagementApi, name: str) -> bool:
    """Whether there is a user of that name whom setup has not made for a package: it is somebody else's login."""
    user = await api.get(f"/api/users/{name}")
    return user is not None and _package(user) is None


def _package(user: Mapping[str, Any]) -> str | None:
    """The package for which setup has made that user."""
    return next((tag.removeprefix(PACKAGE_TAG) for tag in user["tags"] if tag.startswith(PACKAGE_TAG)), None)


async def _apply(api: ManagementApi, name: str, password: str, access: Access) -> None:
    await api.put(f"/api/users/{name}", {"password": password, "tags": access.tags})
    permissions = {"configure": "^$", "write": access.write, "read": access.read}
    await api.put(f"/api/permissions/{{vhost}}/{name}", permissions)
    for exchange, keys in access.topics.items():
        topic = {"exchange": exchange, "write": keys, "read": "^$"}
        await api.put(f"/api/topic-permissions/{{vhost}}/{name}", topic)


async def _keys(api: ManagementApi, name: str) -> frozenset[str]:
    """The routing keys that this user may publish now."""
    permissions = await api.get(f"/api/topic-permissions/{{vhost}}/{name}") or []
    return _named({it["exchange"]: it["write"] for it in permissions})


def _named(topics: Mapping[str, str]) -> frozenset[str]:
    return frozenset(key for expression in topics.values() for key in keys_in(expression))


async def _retire(api: ManagementApi, granted: Sequence[Installed]) -> SetupReport:
    """Takes the permissions in this virtual host from users of packages that are removed or not granted any more."""
    needed = {login(service) for package in granted for service in package.services}
    known = {login(service) for package in installed() for service in package.services}
    taken, left_over = [], []
    for user in await api.get("/api/users") or []:
        name, package = user["name"], _package(user)
        if package is None or name in needed:
            continue
        if await api.get(f"/api/permissions/{{vhost}}/{name}"):
            await api.delete(f"/api/permissions/{{vhost}}/{name}")
            await api.delete(f"/api/topic-permissions/{{vhost}}/{name}")
            why = "not granted" if name in known else "not installed"
            taken.append(f"RabbitMQ: took all permissions from {name}: package {package} is {why}")
        if name not in known and not await api.get(f"/api/users/{name}/permissions"):
            left_over.append(
                f"RabbitMQ user {name} of package {package}, which is not installed: `rabbitmqctl delete_user {name}` "
                "removes it"
            )
    return SetupReport(taken, (), left_over)
