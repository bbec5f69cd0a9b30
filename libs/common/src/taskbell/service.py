"""Runs services: one signal handler and one HTTP server a process; the parts run side by side and drain together.

A service's package offers a `Service` in the entry point group `taskbell.services`; its `app.py` constructs everything.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Protocol

from starlette.routing import BaseRoute

from taskbell.clock import Clock, SystemClock
from taskbell.errors import SettingsError
from taskbell.extensions import installed
from taskbell.health import Health
from taskbell.http import HttpServer, operations
from taskbell.logs import configure, logger
from taskbell.metrics import Metrics
from taskbell.settings import CommonSettings, Settings, doubtful_settings, load
from taskbell.signals import end_at_once, stop_on_signals
from taskbell.supervision import Supervision

GRACE = 27.5
"""Seconds from SIGTERM until parts that still run are cancelled. Supervisors kill the process after 30."""

CLOSE = 1.0
"""Seconds that closing connections may take even if GRACE is used up."""


class Part(Protocol):
    """Something that runs as long as its service. It drains and ends soon after `stop` is set."""

    async def run(self, stop: asyncio.Event) -> None: ...


@dataclass(frozen=True, slots=True)
class Process:
    """What the services of one process share; each `build` gets it."""

    health: Health = field(default_factory=Health)
    metrics: Metrics = field(default_factory=Metrics)
    clock: Clock = field(default_factory=SystemClock)


@dataclass(frozen=True, slots=True)
class Application:
    """A constructed service.

    Attributes:
        parts: run side by side; all get `stop` at the same time.
        close: called in order once every part has ended.
        routes: HTTP routes besides `/livez`, `/readyz` and `/metrics`.
        servers: HTTP servers on further addresses, bound before anything starts.
    """

    parts: Sequence[Part]
    close: Sequence[Callable[[], Awaitable[None]]] = ()
    routes: Sequence[BaseRoute] = ()
    servers: Sequence[HttpServer] = ()


@dataclass(frozen=True, slots=True)
class Service(Generic[Settings]):
    """A service as its package offers it."""

    name: str
    settings: type[Settings]
    build: Callable[[Settings, Process], Application]


def run(chosen: Sequence[Service[Any]]) -> int:
    """Runs services in this process until SIGTERM or SIGINT; returns the exit status.

    Further signals change nothing, also while the process ends; one that comes while it starts ends it at once, with 0.

    0: stopped by a signal, with no error. 1: a part ended by itself or failed, so a supervisor should start us again.

    Raises:
        SettingsError: a setting is missing or wrong, or an installed package offers what cannot be used; nothing was
            started.
    """
    end_at_once()
    installed()
    settings = list(zip(chosen, _load_all(chosen), strict=True))
    _, common = settings[0]
    configure(common.log_level, common.log_format, service="+".join(service.name for service in chosen))
    log = logger("settings")
    doubts = (it for _, given in settings for it in (*doubtful_settings(type(given)), *given.warnings()))
    for reason in dict.fromkeys(doubts):
        log.warning("setting.doubtful", reason=reason)
    process = Process()
    applications = [
        service.build(given, process if len(chosen) == 1 else replace(process, health=process.health.of(service.name)))
        for service, given in settings
    ]
    routes = operations(process.health, process.metrics)
    servers = [
        HttpServer(
            common.http_host,
            common.http_port,
            [*routes, *(route for application in applications for route in application.routes)],
            trusted_proxies=common.trusted_proxies,
        ),
        *(server for application in applications for server in application.servers),
    ]
    for server in servers:
        server.bind()
    supervision = Supervision.from_environment(process.health)
    watched = [Application(parts=[supervision])] if supervision is not None else []
    return _loop_runner()(_run([*applications, *watched], servers))


def _load_all(chosen: Sequence[Service[Any]]) -> list[CommonSettings]:
    loaded: list[CommonSettings] = []
    # A dict keeps their order, each once: services have settings in common.
    mistakes: dict[str, None] = {}
    for service in chosen:
        try:
            loaded.append(load(service.settings))
        except SettingsError as error:
            mistakes |= dict.fromkeys(str(error).splitlines())
    if mistakes:
        raise SettingsError("\n".join(mistakes))
    return loaded


def main(service: Service[Any]) -> int:
    """Runs `python -m taskbell_X`: `--help` lists the settings; a wrong setting is reported, with exit status 2."""
    import argparse
    import sys

    parser = argparse.ArgumentParser(
        prog=f"python -m taskbell_{service.name}",
        description=f"Runs Taskbell's {service.name}. Settings come from the environment and .env.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="settings:\n" + "\n".join(_described(service.settings)),
    )
    parser.parse_args()
    try:
        return run([service])
    except SettingsError as error:
        print(f"{service.name} cannot start:\n{error}", file=sys.stderr)  # noqa: T201 - before logging is set up
        return 2


def _described(settings: type[CommonSettings]) -> list[str]:
    return [
        f"  {name.upper():32} {model.description or ''}{'' if model.is_required() else _default(model.default)}"
        for name, model in settings.model_fields.items()
    ]


def _default(value: object) -> str:
    return "" if value is None else f" [{value}]"


def _loop_runner() -> Callable[[Any], int]:
    try:
        import uvloop
    except ImportError:
        return asyncio.run
    return uvloop.run


async def _run(applications: Sequence[Application], servers: Sequence[HttpServer]) -> int:
    log = logger("service")
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    stop_on_signals(loop, stop)
    parts = [part for application in applications for part in application.parts]
    tasks = [asyncio.create_task(part.run(stop), name=_name(part)) for part in parts]
    # The HTTP servers stop last: probes must be answered while parts drain.
    served = asyncio.Event()
    http = [asyncio.create_task(server.run(served), name=server.name) for server in servers]
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait([*tasks, *http, stopped], return_when=asyncio.FIRST_COMPLETED)
    failed = not stop.is_set()
    ended = {task for task in [*tasks, *http] if task.done()} if failed else set()
    for task in ended:
        log.error("part.ended", part=task.get_name(), exc_info=_error_of(task))
    if not failed:
        log.info("service.stopping")
    stop.set()
    deadline = loop.time() + GRACE
    await asyncio.wait([*tasks, stopped], timeout=GRACE)
    late = {task for task in tasks if not task.done()}
    for task in late:
        log.warning("part.cancelled", part=task.get_name())
        task.cancel()
    for task in set(tasks) - late - ended:
        if (error := _error_of(task)) is not None:
            log.error("part.failed_while_stopping", part=task.get_name(), exc_info=error)
            failed = True
    await _close([close for application in applications for close in application.close], deadline)
    served.set()
    await asyncio.gather(*http, return_exceptions=True)
    log.info("service.stopped")
    return 1 if failed else 0


def _error_of(task: "asyncio.Task[Any]") -> BaseException | None:
    """The error of a task that is done; None: it did not fail."""
    return asyncio.CancelledError() if task.cancelled() else task.exception()


async def _close(closing: Sequence[Callable[[], Awaitable[None]]], deadline: float) -> None:
    """Closes one after the other, until the deadline or for CLOSE, whichever is later. An error does not stop it."""
    log = logger("service")
    try:
        async with asyncio.timeout_at(max(deadline, asyncio.get_running_loop().time() + CLOSE)):
            for close in closing:
                try:
                    await close()
                except Exception as error:
                    log.warning("close.failed", exc_info=error)
    except TimeoutError:
        log.warning("close.cut_off")


def _name(part: Part) -> str:
    name = getattr(part, "name", None)
    return f"{type(part).__name__}({name})" if name else type(part).__name__
