"""amqps:// encrypts the connection, and trusts only whom BROKER_URL names."""

import ssl
from collections.abc import AsyncIterator
from typing import Self
from urllib.parse import urlencode

import pytest
import pytest_asyncio
from tests.integration.common.messaging.harness import QUEUE, ConsumingHarness, Recorder, command
from tests.support.proxy import Proxy
from tests.support.scripted_smtp import Certificate

from taskbell.errors import BrokerUnavailable
from taskbell.messaging.publishing.outgoing import Outgoing
from taskbell.messaging.publishing.publisher import Publisher


class TlsProxy(Proxy):
    """Speaks TLS with clients, and plainly with the broker."""

    def __init__(self, url: str, context: ssl.SSLContext) -> None:
        super().__init__(url)
        self._context = context

    async def __aenter__(self) -> Self:
        return await self.listen(self._context)

    def amqps(self, **query: str) -> str:
        return f"{self.url.replace('amqp://', 'amqps://')}?{urlencode(query)}"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Certificate.make(tmp_path_factory.mktemp("tls"))


@pytest_asyncio.fixture
async def tls(harness: ConsumingHarness, certificate: Certificate) -> AsyncIterator[TlsProxy]:
    async with TlsProxy(harness.url, certificate.server_context()) as proxy:
        yield proxy


async def test_publishing_and_consuming_go_over_tls(
    harness: ConsumingHarness, recorder: Recorder, tls: TlsProxy, certificate: Certificate
) -> None:
    url = tls.amqps(cafile=str(certificate.certificate))
    harness.start(recorder.subscription(), url=url)
    publisher = Publisher(url, name="test")
    await publisher.publish(Outgoing("taskbell.commands", QUEUE, command(1), "m-1", mandatory=True))
    await recorder.wait_for(1)
    await harness.stop()
    await publisher.close()
    assert tls.accepted == 2


async def test_a_certificate_that_is_not_trusted_ends_it(tls: TlsProxy) -> None:
    publisher = Publisher(tls.amqps(), name="test")
    with pytest.raises(BrokerUnavailable, match="certificate verify failed"):
        await publisher.publish(Outgoing("taskbell.commands", QUEUE, command(1), "m-1", mandatory=True))
