"""One stack for the tests that share it, and others for those that need their own; all are taken away."""

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.stack.compose import Compose
from tests.stack.ledger import load_people


@pytest.fixture(scope="session")
def compose() -> Iterator[Callable[..., Compose]]:
    """Makes compose projects of names that nobody else has, and removes each in the end."""
    made: list[Compose] = []

    def make(name: str, *files: str, **more: Any) -> Compose:
        made.append(Compose(f"taskbell-{name}-{os.getpid()}", *files, **more))
        return made[-1]

    yield make
    for stack in made:
        stack.remove()


@pytest.fixture(scope="session")
def stack(compose: Callable[..., Compose]) -> Compose:
    """Two notifiers and two schedulers, the other services once, a mail server that writes down what it accepts."""
    stack = compose("test", "tests/stack/compose.yml")
    stack.up()
    load_people(stack)
    return stack
