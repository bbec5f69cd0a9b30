"""Virtual hosts of a test's own."""

import contextlib
import uuid
from collections.abc import AsyncIterator
from typing import NamedTuple

from taskbell.setup.broker import declare
from tests.support.management import Management, vhost_url
from tests.support.servers import ServerUrls


class Vhost(NamedTuple):
    """A virtual host of the test's own."""

    name: str
    url: str
    management: Management


@contextlib.asynccontextmanager
async def fresh_vhost(servers: ServerUrls, *, topology: bool = True) -> AsyncIterator[Vhost]:
    """A new virtual host, with our exchanges and queues unless they are not wanted; it is deleted at the end."""
    name = f"test-{uuid.uuid4().hex[:16]}"
    url = vhost_url(servers.broker_url, name)
    management = Management(servers.management_url, url, name)
    await management.create_vhost()
    try:
        if topology:
            await declare(url)
        yield Vhost(name, url, management)
    finally:
        await management.delete_vhost()
        await management.close()
