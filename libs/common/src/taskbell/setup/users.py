"""RabbitMQ users and their permissions, applied by `taskbell setup` through the management API.

AMQP cannot make users: only the management API and rabbitmqctl can.
"""

from collections.abc import Mapping
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import httpx

from taskbell.errors import BrokerUnavailable, SettingsError
from taskbell.setup.privileges import ACCESS, RoleName, login

TIMEOUT = 10.0
"""Seconds for each request."""


async def apply_users(management_url: str, broker_url: str, passwords: Mapping[RoleName, str]) -> None:
    """Makes or updates the users whose passwords are given, with exactly the permissions of this version.

    Args:
        management_url: `http://user:password@host:15672`, of an administrator.
        broker_url: its virtual host is the one in which the users get permissions.

    Raises:
        BrokerUnavailable: the management API does not answer.
        SettingsError: it refuses: the user is not an administrator, or the virtual host does not exist.
    """
    parts = urlsplit(management_url)
    host = parts.netloc.rpartition("@")[2]
    vhost = quote(virtual_host(broker_url), safe="")
    async with httpx.AsyncClient(
        base_url=urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", "")),
        auth=(unquote(parts.username or "guest"), unquote(parts.password or "guest")),
        timeout=TIMEOUT,
    ) as api:
        for role, password in passwords.items():
            name, access = login(role), ACCESS[role]
            await _put(api, f"/api/users/{name}", {"password": password, "tags": access.tags})
            await _put(
                api,
                f"/api/permissions/{vhost}/{name}",
                {"configure": "^$", "write": access.write, "read": access.read},
            )
            for exchange, keys in access.topics.items():
                await _put(
                    api,
                    f"/api/topic-permissions/{vhost}/{name}",
                    {"exchange": exchange, "write": keys, "read": "^$"},
                )


def virtual_host(broker_url: str) -> str:
    """The virtual host that an AMQP URL names; `/` if it names none."""
    path = urlsplit(broker_url).path
    return unquote(path[1:]) or "/"


async def _put(api: httpx.AsyncClient, path: str, body: Mapping[str, str]) -> None:
    try:
        response = await api.put(path, json=dict(body))
    except httpx.HTTPError as error:
        msg = f"RabbitMQ's management API at {api.base_url} does not answer: {error or type(error).__name__}"
        raise BrokerUnavailable(msg) from error
    if response.is_error:
        msg = (
            f"RabbitMQ's management API refused {path}: {response.status_code} {response.text[:200]}. "
            "Set BROKER_MANAGEMENT_URL to an administrator, and BROKER_URL to a virtual host that exists."
        )
        raise SettingsError(msg)
