"""Calls RabbitMQ's management API; its errors name the remedy."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import httpx

from taskbell.errors import BrokerUnavailable, SettingsError

TIMEOUT = 10.0
"""Seconds for each request."""


class ManagementApi:
    """The API for one virtual host, used as an administrator. In paths, `{vhost}` stands for that host.

    Every method raises BrokerUnavailable if the API does not answer, and SettingsError if it refuses.
    """

    def __init__(self, client: httpx.AsyncClient, vhost: str) -> None:
        self._client = client
        self._vhost = quote(vhost, safe="")

    async def get(self, path: str) -> Any:
        """What the path holds; None: it does not exist."""
        return await self._call("GET", path)

    async def put(self, path: str, body: Mapping[str, str]) -> None:
        """Creates or changes what the path names."""
        await self._call("PUT", path, dict(body))

    async def delete(self, path: str) -> None:
        """Deletes what the path names, if it exists."""
        await self._call("DELETE", path)

    async def _call(self, method: str, path: str, body: Mapping[str, str] | None = None) -> Any:
        place = path.replace("{vhost}", self._vhost)
        try:
            response = await self._client.request(method, place, json=body)
        except httpx.HTTPError as error:
            url = self._client.base_url
            msg = f"RabbitMQ's management API at {url} does not answer: {error or type(error).__name__}"
            raise BrokerUnavailable(msg) from error
        if response.status_code == httpx.codes.NOT_FOUND and method != "PUT":
            return None
        if response.is_error:
            msg = (
                f"RabbitMQ's management API refused {place}: {response.status_code} {response.text[:200]}. "
                "Set BROKER_MANAGEMENT_URL to an administrator, and BROKER_URL to a virtual host that exists."
            )
            raise SettingsError(msg)
        return response.json() if response.content else None


@asynccontextmanager
async def management(management_url: str, broker_url: str) -> AsyncIterator[ManagementApi]:
    """The API at `http://user:password@host:15672`, for the virtual host that the broker's URL names."""
    parts = urlsplit(management_url)
    host = parts.netloc.rpartition("@")[2]
    async with httpx.AsyncClient(
        base_url=urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", "")),
        auth=(unquote(parts.username or "guest"), unquote(parts.password or "guest")),
        timeout=TIMEOUT,
    ) as client:
        yield ManagementApi(client, virtual_host(broker_url))


def virtual_host(broker_url: str) -> str:
    """The virtual host that an AMQP URL names; `/` if it names none."""
    path = urlsplit(broker_url).path
    return unquote(path[1:]) or "/"
