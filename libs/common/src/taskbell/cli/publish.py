"""`taskbell publish`: publishes any message by hand."""

import asyncio
import re
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taskbell.cli.console import print_json, shown
from taskbell.errors import Mistake
from taskbell.spelling import did_you_mean

if TYPE_CHECKING:
    from taskbell.contracts import CommandOutcome, Message

app = typer.Typer(rich_markup_mode=None)

PROPERTIES = ("correlation_id", "traceparent")
TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


@app.command("publish")
def publish_by_hand(
    routing_key: Annotated[str, typer.Argument(help="A routing key that `taskbell messages` lists.")],
    body: Annotated[
        str, typer.Argument(metavar="[JSON]", help="The body, a JSON object; - reads it from standard input.")
    ] = "{}",
    message_id: Annotated[
        str | None, typer.Option(help="Identifies the message: published twice with one id, it takes effect once.")
    ] = None,
    properties: Annotated[
        list[str] | None,
        typer.Option("--property", metavar="NAME=VALUE", help="correlation_id or traceparent. May be repeated."),
    ] = None,
    wait: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", min=0.1, help="Wait for a command's outcome; exit code 0: done or unchanged."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Publish an event or a command by hand.

    The body is checked first. The message_id is printed once RabbitMQ has confirmed the message.
    """
    from taskbell.catalogue import catalogue
    from taskbell.cli.bodies import read_body
    from taskbell.cli.waiting import still_waiting
    from taskbell.client import AsyncClient
    from taskbell.errors import OutcomeTimeout
    from taskbell.settings import BrokerAccess, load

    known = catalogue()
    message = known.get(routing_key)
    if message is None:
        hint = did_you_mean(routing_key, known) or "."
        msg = f"unknown message {routing_key!r}{hint} `taskbell messages` lists all"
        raise Mistake(msg)
    if wait is not None and not message.has_outcome:
        msg = f"{routing_key} has no outcome to wait for: leave --wait out"
        raise Mistake(msg)
    contract = read_body(message, _read() if body == "-" else body)
    given = _properties(properties or [])
    url = load(BrokerAccess).broker_url.get_secret_value()

    async def send() -> "tuple[str, CommandOutcome | None]":
        async with AsyncClient(url, name="taskbell publish") as client:
            if wait is None:
                return await client.publish(contract, message_id=message_id, **given), None
            outcome = await client.request(contract, timeout=wait, message_id=message_id, **given)
            return outcome.message_id, outcome

    try:
        published_as, outcome = asyncio.run(send())
    except ValueError as error:  # an id that AMQP cannot carry
        raise Mistake(str(error)) from None
    except OutcomeTimeout as error:
        raise asyncio.run(still_waiting(error)) from None
    _print(message, published_as, outcome, as_json=as_json)
    if outcome and not outcome.ok:
        raise typer.Exit(1)


def _print(message: "Message", message_id: str, outcome: "CommandOutcome | None", *, as_json: bool) -> None:
    from taskbell.catalogue import package_of
    from taskbell.extensions import OURS

    package = package_of(message.routing_key)
    if as_json:
        printed: dict[str, Any] = {
            "message_id": message_id,
            "exchange": message.exchange,
            "routing_key": message.routing_key,
            "consumer": message.consumer,
            "package": package,
        }
        if outcome:
            printed["outcome"] = {"state": outcome.state, "result": outcome.result, "reason": outcome.reason}
        print_json(printed)
        return
    print(message_id)
    if package != OURS:
        goes_to = f"the service {message.consumer}" if message.consumer else "whoever has bound a queue to it"
        # Not on standard output, because scripts read the message_id there.
        print(f"{message.routing_key} belongs to package {package} and goes to {goes_to}", file=sys.stderr)
    if outcome:
        print(": ".join(shown(it) for it in (outcome.state, outcome.reason, outcome.result) if it is not None))


def _read() -> str:
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        msg = f"standard input must be UTF-8: {error}"
        raise Mistake(msg) from None


def _properties(given: list[str]) -> dict[str, Any]:
    found = {}
    for pair in given:
        name, _, value = pair.partition("=")
        if name not in PROPERTIES or not value:
            msg = f"--property takes NAME=VALUE with {' or '.join(PROPERTIES)}, not {pair!r}"
            raise Mistake(msg + did_you_mean(name, PROPERTIES))
        if name == "traceparent" and not TRACEPARENT.fullmatch(value):
            msg = (
                f"traceparent must look like 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01 (W3C Trace "
                f"Context), not {value!r}"
            )
            raise Mistake(msg)
        found[name] = value
    return found
