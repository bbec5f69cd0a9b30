"""The demo gives up as soon as it cannot succeed, and says why."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from taskbell_devstack import actions, demo
from taskbell_devstack.errors import DemoFailed
from taskbell_devstack.stack import Stack


def stack_with(folder: Path, *, maintenance_runs: bool) -> Stack:
    """As much of a stack as is looked at."""
    (folder / "log").mkdir()
    (folder / "log" / "maintenance.log").write_text("its last words\n")
    known = SimpleNamespace(
        directory=folder,
        state=SimpleNamespace(services={"notifier": None, "maintenance": None}),
        runs=lambda name: maintenance_runs or name != "maintenance",
    )
    return cast(Stack, known)


async def test_a_service_that_has_ended_ends_the_demo_with_its_last_words(tmp_path: Path) -> None:
    forever = asyncio.Event()

    async def work() -> Any:
        await forever.wait()

    with pytest.raises(DemoFailed, match=r"The maintenance has ended(.|\n)*its last words"):
        await demo.while_all_run(stack_with(tmp_path, maintenance_runs=False), work())


async def test_what_was_to_happen_is_returned_while_all_services_run(tmp_path: Path) -> None:
    happened = object()

    async def work() -> Any:
        return happened

    assert await demo.while_all_run(stack_with(tmp_path, maintenance_runs=True), work()) is happened


async def test_what_does_not_happen_in_time_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actions, "LIMIT", 0.05)

    async def never() -> bool:
        return False

    with pytest.raises(DemoFailed, match="for the end of the world, which did not happen"):
        await actions.until(never, "the end of the world", see="nowhere")
