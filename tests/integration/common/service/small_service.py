"""A service of a few lines that tests run as a process: `python small_service.py NAME...`; each name says what it does.

steady: runs until it is told to stop.
draining: told to stop, it runs until the file in SMALL_RELEASE exists.
stubborn: never ends by itself.
ending, failing: ends, or fails, by itself once the file in SMALL_RELEASE exists.
late_failure: fails while it stops.
starting: cannot be constructed before the file in SMALL_RELEASE exists.
SMALL_LEAVING: when all has ended, the interpreter waits for the file of that name before it ends.
"""

import asyncio
import atexit
import os
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from pydantic import Field
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from taskbell import service as module
from taskbell.errors import SettingsError
from taskbell.service import Application, Process, Service, main, run
from taskbell.settings import CommonSettings
from taskbell_devstack.waiting import wait_until


def say(*words: object) -> None:
    print(*words, flush=True)


async def released() -> None:
    await asyncio.to_thread(wait_until, Path(os.environ["SMALL_RELEASE"]).exists, limit=60)


class SmallSettings(CommonSettings):
    small_note: str = Field(description="Something to say")


class Part:
    """Behaves as its name says."""

    def __init__(self, name: str, process: Process) -> None:
        self.name = name
        self._process = process
        process.health.expect("part")

    async def run(self, stop: asyncio.Event) -> None:
        self._process.health.set("part", "ready")
        say("running", self.name)
        try:
            await self._until(stop)
        finally:
            say("ended", self.name)

    async def _until(self, stop: asyncio.Event) -> None:
        if self.name in ("ending", "failing"):
            await released()
            if self.name == "failing":
                raise ValueError("a bug")
            return
        await stop.wait()
        say("told to stop", self.name)
        if self.name == "draining":
            self._process.health.set("part", "waiting", "draining")
            await released()
        if self.name == "stubborn":
            await asyncio.Event().wait()
        if self.name == "late_failure":
            raise ValueError("a bug while stopping")


def build(name: str, settings: SmallSettings, process: Process) -> Application:
    if name == "starting":
        say("starting")
        wait_until(Path(os.environ["SMALL_RELEASE"]).exists, limit=60)

    async def hello(_: Request) -> PlainTextResponse:
        return PlainTextResponse(f"{name}: {settings.small_note}")

    def closing(number: int) -> Callable[[], Awaitable[None]]:
        async def close() -> None:
            say("closed", name, number)
            if os.environ.get("SMALL_CLOSE") == "fails":
                raise ValueError("cannot close")
            if os.environ.get("SMALL_CLOSE") == "hangs":
                await asyncio.Event().wait()

        return close

    return Application([Part(name, process)], [closing(1), closing(2)], [Route(f"/{name}", hello)])


def leave() -> None:
    say("leaving")
    wait_until(Path(os.environ["SMALL_LEAVING"]).exists, limit=60)
    say("left")


if __name__ == "__main__":
    if "SMALL_LEAVING" in os.environ:
        atexit.register(leave)
    if grace := os.environ.get("SMALL_GRACE"):
        module.GRACE = float(grace)
    if os.environ.get("SMALL_LOOP") == "asyncio":
        sys.modules["uvloop"] = None  # type: ignore[assignment]
    chosen = [Service(name, SmallSettings, partial(build, name)) for name in sys.argv[1:] if name[0] != "-"]
    if "--main" in sys.argv:
        sys.argv[1:] = [word for word in sys.argv[1:] if word == "--help"]
        sys.exit(main(chosen[0]))
    try:
        sys.exit(run(chosen))
    except SettingsError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
