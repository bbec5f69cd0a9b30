"""Commands that read or change a running Taskbell. They need its database; `run` needs its broker."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from taskbell.catalogue import catalogue
from taskbell.cli.console import print_json, print_table
from taskbell.contracts import Contract
from taskbell.errors import Mistake
from taskbell_scheduler.cli.named import AsJson, all_schedules, known_zone, named
from taskbell_scheduler.domain import EVERY_ZONE
from taskbell_scheduler.payloads import rfc3339, takes
from taskbell_scheduler.schedules import Schedule

if TYPE_CHECKING:
    from taskbell.database import Transaction

T = TypeVar("T")
Name = Annotated[str, typer.Argument(help="The name of a schedule.")]
OneZone = Annotated[str | None, typer.Option("--zone", help="Only in this zone.")]


def status(
    name: Annotated[str | None, typer.Argument(help="The name of a schedule; default: all.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show how far each schedule has come in each zone, and what is paused."""
    from taskbell_scheduler.repository import operating

    rows = _queried(lambda transaction: operating.states(transaction, name))
    if name is not None and not rows:
        named(all_schedules()[1], name)
    if as_json:
        print_json([{key: _plain(value) for key, value in asdict(row).items()} for row in rows])
        return
    table = [
        (row.schedule, "all zones", None, "paused", row.note)
        if row.zone == EVERY_ZONE
        else (row.schedule, row.zone, row.position, _state(row.active, row.paused), row.note)
        for row in rows
        if row.zone != EVERY_ZONE or row.paused
    ]
    print_table(("schedule", "zone", "done up to", "state", "note"), table)


def history(
    name: Name,
    zone: OneZone = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="The number of occurrences at most.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Show how a schedule's occurrences ended, the newest first, and why it did or did not publish."""
    from taskbell_scheduler.repository import operating

    if zone is not None:
        known_zone(zone)
    rows = _queried(lambda transaction: operating.history(transaction, name, zone, limit))
    if as_json:
        print_json([{key: _plain(value) for key, value in asdict(row).items()} for row in rows])
    elif not rows:
        named(all_schedules()[1], name)  # a mistyped name must not look like a schedule that never fired
        print(f"No occurrence of {name}{f' in {zone}' if zone else ''} is recorded in the last 90 days.")
    else:
        table = [
            (
                row.at,
                row.zone,
                row.key if row.occurrences == 1 else f"{row.key} and {row.occurrences - 1} before it",
                row.status,
                row.reason or f"message {row.message_id}",
                row.recorded_at,
            )
            for row in rows
        ]
        print_table(("due", "zone", "occurrence", "status", "reason", "recorded"), table)


def pause(
    name: Name,
    zone: OneZone = None,
    note: Annotated[str | None, typer.Option(help="The reason, which `status` and `history` show.")] = None,
) -> None:
    """Stop publishing a schedule until it is resumed; occurrences until then are recorded as paused."""
    from taskbell_scheduler.repository import operating

    schedule = _scheduled(name)
    if zone and schedule.zone and schedule.zone != known_zone(zone):
        msg = f"{name} runs only in {schedule.zone.key}, not in {zone}; leave --zone out"
        raise Mistake(msg)
    place = known_zone(zone).key if zone else None
    _queried(lambda transaction: operating.pause(transaction, name, place, note))
    print(f"{name} is paused in {place or 'all zones'}.")


def resume(name: Name, zone: OneZone = None) -> None:
    """End the pauses of a schedule. It goes on from now: occurrences in the pause are not caught up with."""
    ended = _queried(lambda transaction: _resume(transaction, name, zone))
    places = ", ".join("all zones" if it == EVERY_ZONE else it for it in ended)
    print(f"{name} runs again: {places}." if ended else f"{name} was not paused{f' in {zone}' if zone else ''}.")


def run(
    name: Name,
    zone: Annotated[str | None, typer.Option(help="Only for recipients in this zone.")] = None,
) -> None:
    """Publish a schedule's message now. It has no occurrence, so it counts as a manual one."""
    schedule = _scheduled(name)
    body = dict(schedule.payload)
    if zone:
        if not takes(schedule.publish, "timezone"):
            msg = f"{schedule.publish} has no field timezone; leave --zone out"
            raise Mistake(msg)
        body["timezone"] = known_zone(zone).key
    message_id = asyncio.run(_publish(catalogue()[schedule.publish].contract.parse(json.dumps(body).encode())))
    print(f"{schedule.publish} is published, message_id {message_id}")


async def _publish(body: Contract) -> str:
    from taskbell.client import AsyncClient
    from taskbell.settings import BrokerAccess, load

    url = load(BrokerAccess).broker_url.get_secret_value()
    async with AsyncClient(url, name="taskbell schedules run") as client:
        return await client.publish(body)


async def _resume(transaction: "Transaction", name: str, zone: str | None) -> list[str]:
    from taskbell_scheduler.repository import operating

    rows = await operating.states(transaction, name)
    if not rows:
        msg = f"no schedule {name!r} is recorded; `taskbell schedules status` lists those that are"
        raise Mistake(msg)
    if zone and any(row.paused and row.zone == EVERY_ZONE for row in rows):
        msg = f"{name} is paused in all zones; resume it without --zone"
        raise Mistake(msg)
    return list(await operating.resume(transaction, name, zone))


def _queried(query: "Callable[[Transaction], Awaitable[T]]") -> T:
    """Runs the query in a transaction, commits it, and returns its result."""
    from taskbell.cli.access import database

    async def run_query() -> T:
        async with database() as connected, connected.transaction() as transaction:
            return await query(transaction)

    return asyncio.run(run_query())


def _scheduled(name: str) -> Schedule:
    _, schedules = all_schedules()
    return named(schedules, name)


def _state(active: bool, paused: bool) -> str:
    return "paused" if paused else "" if active else "not in use"


def _plain(value: Any) -> Any:
    return rfc3339(value) if isinstance(value, datetime) else value
