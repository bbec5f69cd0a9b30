"""Commands that ask or change a running Taskbell: they need its database, `run` its broker."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, TypeVar
from uuid import uuid4

import typer

from taskbell.catalogue import catalogue
from taskbell.cli.console import Mistake, print_json, print_table
from taskbell_scheduler.cli.named import AsJson, all_schedules, known_zone, named
from taskbell_scheduler.domain import EVERY_ZONE
from taskbell_scheduler.payloads import rfc3339, takes
from taskbell_scheduler.schedules import Schedule

if TYPE_CHECKING:
    from taskbell.database import Transaction
    from taskbell.messaging.publishing.publisher import Outgoing

T = TypeVar("T")
Name = Annotated[str, typer.Argument(help="A schedule.")]
OneZone = Annotated[str | None, typer.Option("--zone", help="Only in this zone.")]


def status(
    name: Annotated[str | None, typer.Argument(help="A schedule; default: all.")] = None, as_json: AsJson = False
) -> None:
    """Show how far each schedule has come in each zone, and what is paused."""
    from taskbell_scheduler.repository import operating

    rows = _asked(lambda transaction: operating.states(transaction, name))
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
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many, newest first.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Show what became of a schedule's occurrences: why did it fire, or not?"""
    from taskbell_scheduler.repository import operating

    if zone is not None:
        known_zone(zone)
    rows = _asked(lambda transaction: operating.history(transaction, name, zone, limit))
    if as_json:
        print_json([{key: _plain(value) for key, value in asdict(row).items()} for row in rows])
    elif not rows:
        named(all_schedules()[1], name)  # a mistyped name must not look like a schedule that never fired
        print(f"Nothing is recorded of {name}{f' in {zone}' if zone else ''} in the last 90 days.")
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
    note: Annotated[str | None, typer.Option(help="Why; shown by `status` and `history`.")] = None,
) -> None:
    """Publish a schedule no more until it is resumed; what falls due meanwhile is recorded as paused."""
    from taskbell_scheduler.repository import operating

    schedule = _scheduled(name)
    if zone and schedule.zone and schedule.zone != known_zone(zone):
        msg = f"{name} runs in {schedule.zone.key} only"
        raise Mistake(msg)
    place = known_zone(zone).key if zone else None
    _asked(lambda transaction: operating.pause(transaction, name, place, note))
    print(f"{name} is paused in {place or 'all zones'}.")


def resume(name: Name, zone: OneZone = None) -> None:
    """End the pauses of a schedule. It begins again at this moment: nothing of the pause is caught up with."""
    ended = _asked(lambda transaction: _resume(transaction, name, zone))
    places = ", ".join("all zones" if it == EVERY_ZONE else it for it in ended)
    print(f"{name} runs again: {places}." if ended else f"{name} was not paused{f' in {zone}' if zone else ''}.")


def run(
    name: Name,
    zone: Annotated[str | None, typer.Option(help="Keep to recipients of this zone.")] = None,
) -> None:
    """Publish a schedule's message now, by hand: without occurrence, so it is a manual one."""
    from taskbell.messaging.publishing.publisher import Outgoing

    schedule = _scheduled(name)
    body = dict(schedule.payload)
    if zone:
        if not takes(schedule.publish, "timezone"):
            msg = f"{schedule.publish} has no timezone; leave --zone out"
            raise Mistake(msg)
        body["timezone"] = known_zone(zone).key
    message = catalogue()[schedule.publish]
    outgoing = Outgoing(
        exchange=message.exchange,
        routing_key=schedule.publish,
        body=json.dumps(body).encode(),
        message_id=str(uuid4()),
        type=schedule.publish,
        mandatory=message.mandatory,
    )
    asyncio.run(_publish(outgoing))
    print(f"{schedule.publish} is published, message_id {outgoing.message_id}")


async def _publish(outgoing: "Outgoing") -> None:
    from taskbell.messaging.publishing.publisher import Publisher
    from taskbell.settings import BrokerAccess, load

    publisher = Publisher(load(BrokerAccess).broker_url.get_secret_value(), name="taskbell schedules run")
    try:
        await publisher.publish(outgoing)
    finally:
        await publisher.close()


async def _resume(transaction: "Transaction", name: str, zone: str | None) -> list[str]:
    from taskbell_scheduler.repository import operating

    rows = await operating.states(transaction, name)
    if not rows:
        msg = f"nothing is known of a schedule {name!r}; `taskbell schedules status` shows all"
        raise Mistake(msg)
    if zone and any(row.paused and row.zone == EVERY_ZONE for row in rows):
        msg = f"{name} is paused in all zones; resume it without --zone"
        raise Mistake(msg)
    return list(await operating.resume(transaction, name, zone))


def _asked(question: "Callable[[Transaction], Awaitable[T]]") -> T:
    """The answer of the database, committed."""
    from taskbell.cli.access import database

    async def ask() -> T:
        async with database() as connected, connected.transaction() as transaction:
            return await question(transaction)

    return asyncio.run(ask())


def _scheduled(name: str) -> Schedule:
    _, schedules = all_schedules()
    return named(schedules, name)


def _state(active: bool, paused: bool) -> str:
    return "paused" if paused else "" if active else "not in use"


def _plain(value: Any) -> Any:
    return rfc3339(value) if isinstance(value, datetime) else value
