"""RabbitMQ as a person sees it: its management API, and exact queue lengths over a connection of its own."""

import base64
import contextlib
import json
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

import aiormq
import httpx


class Depth(NamedTuple):
    """How a queue stands. Messages with a consumer, not yet acknowledged, are not among the ready ones."""

    ready: int
    consumers: int


@dataclass(frozen=True)
class Message:
    """A message as taken from a queue."""

    body: bytes
    routing_key: str
    exchange: str
    redelivered: bool
    properties: Mapping[str, Any]

    @property
    def headers(self) -> Mapping[str, Any]:
        """The headers that its publisher gave it; quorum queues add a count of deliveries."""
        headers = dict(self.properties.get("headers", {}))
        headers.pop("x-delivery-count", None)
        return headers

    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)


class Management:
    """One virtual host through the management API. Close it when done."""

    def __init__(self, management_url: str, broker_url: str, vhost: str) -> None:
        self.vhost = vhost
        self.url = management_url
        self._broker_url = broker_url
        url = f"{management_url.rstrip('/')}/api"
        self._client = httpx.AsyncClient(base_url=url, timeout=30, trust_env=False)

    async def close(self) -> None:
        await self._client.aclose()

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        """Any call, with `{vhost}` in its path filled in; the answer's JSON, or None where it has no body.

        Raises httpx.HTTPStatusError where it fails.
        """
        answer = await self._client.request(method, path.format(vhost=quote(self.vhost, safe="")), json=body)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    async def create_vhost(self) -> None:
        """Make the virtual host and let our user do everything in it."""
        await self.call("PUT", "/vhosts/{vhost}", {})
        user = quote(httpx.URL(str(self._client.base_url)).username, safe="")
        everything = {"configure": ".*", "write": ".*", "read": ".*"}
        await self.call("PUT", f"/permissions/{{vhost}}/{user}", everything)

    async def delete_vhost(self) -> None:
        """Remove the virtual host with all that is in it, and its connections."""
        await self.call("DELETE", "/vhosts/{vhost}")

    async def publish(
        self,
        exchange: str,
        routing_key: str,
        body: Any = "{}",
        *,
        properties: Mapping[str, Any] | None = None,
    ) -> bool:
        """Publish as a person does on the management page: with no property at all, unless given.

        A `str` or `bytes` body goes out as it is, anything else as JSON. Returns whether any queue got it.
        """
        text = body if isinstance(body, str | bytes) else json.dumps(body)
        raw = text.encode() if isinstance(text, str) else text
        answer = await self.call(
            "POST",
            f"/exchanges/{{vhost}}/{quote(exchange, safe='') or 'amq.default'}/publish",
            {
                "routing_key": routing_key,
                "payload": base64.b64encode(raw).decode(),
                "payload_encoding": "base64",
                "properties": dict(properties or {}),
            },
        )
        return bool(answer["routed"])

    async def take(self, queue: str, count: int = 1_000) -> list[Message]:
        """Take up to `count` messages from a queue; they are gone from it."""
        answer = await self.call(
            "POST",
            f"/queues/{{vhost}}/{quote(queue, safe='')}/get",
            {"count": count, "ackmode": "ack_requeue_false", "encoding": "base64"},
        )
        return [
            Message(
                body=base64.b64decode(it["payload"]),
                routing_key=it["routing_key"],
                exchange=it["exchange"],
                redelivered=it["redelivered"],
                properties=dict(it["properties"] or {}),  # an empty one comes as a list
            )
            for it in answer
        ]

    async def depth(self, queue: str) -> Depth:
        """How a queue stands at this moment; the management API's own figures lag by seconds.

        Raises aiormq.exceptions.ChannelNotFoundEntity where there is no such queue.
        """
        async with self._channel() as channel:
            answer = await channel.queue_declare(queue, passive=True)
            return Depth(answer.message_count or 0, answer.consumer_count or 0)

    async def queue_names(self) -> set[str]:
        """The names of all queues."""
        answer = await self.call("GET", "/queues/{vhost}?disable_stats=true")
        return {it["name"] for it in answer}

    async def listen(self, exchange: str, routing_key: str) -> str:
        """Make a queue that gets what is published there under that key from now on, and return its name."""
        queue = f"listener.{uuid.uuid4().hex[:12]}"
        await self.call("PUT", f"/queues/{{vhost}}/{queue}", {"durable": True, "arguments": {}})
        await self.call(
            "POST",
            f"/bindings/{{vhost}}/e/{quote(exchange, safe='')}/q/{queue}",
            {"routing_key": routing_key},
        )
        return queue

    @contextlib.asynccontextmanager
    async def _channel(self) -> AsyncIterator[Any]:
        connection = await aiormq.connect(self._broker_url)
        try:
            yield await connection.channel()
        finally:
            await connection.close()


def vhost_url(broker_url: str, vhost: str) -> str:
    """The broker's URL with another virtual host."""
    return urlsplit(broker_url)._replace(path="/" + quote(vhost, safe="")).geturl()
