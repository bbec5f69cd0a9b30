import pytest
from tests.support.kinds import KINDS

from taskbell_notifier.mail.headers import parse_sender
from taskbell_notifier.mail.links import Links
from taskbell_notifier.mail.mime import MailWriter
from taskbell_notifier.mail.render import Renderer


@pytest.fixture(scope="session")
def renderer() -> Renderer:
    return Renderer(KINDS, Links("https://app.example.com"))


@pytest.fixture(scope="session")
def linkless() -> Renderer:
    """A renderer that does not know where the web app is."""
    return Renderer(KINDS, Links())


@pytest.fixture(scope="session")
def writer() -> MailWriter:
    return MailWriter(parse_sender("Taskbell <bell@example.com>"))
