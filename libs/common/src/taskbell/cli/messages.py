"""`taskbell messages`: the list of all messages."""

from typing import Annotated, Any

import typer

from taskbell.cli.console import print_json, print_table

app = typer.Typer(rich_markup_mode=None)


@app.command("messages")
def all_messages(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with each body's JSON Schema.")] = False,
) -> None:
    """List every message and the fields of its body."""
    from taskbell.cli.bodies import fields_of
    from taskbell.contracts import CATALOGUE

    if as_json:
        print_json([_described(message) for message in CATALOGUE.values()])
        return
    print_table(
        ("routing key", "exchange", "queue", "by", "meaning"),
        [(it.routing_key, it.exchange, it.queue, it.publishers, it.meaning) for it in CATALOGUE.values()],
    )
    for message in CATALOGUE.values():
        print(f"\n{message.routing_key}")
        for field in fields_of(message.contract):
            print(f"  {field.name:16} {'required' if field.required else 'optional'}  {field.type}")


def _described(message: Any) -> dict[str, Any]:
    from taskbell.cli.bodies import fields_of

    fields = fields_of(message.contract)
    return {
        "routing_key": message.routing_key,
        "kind": message.kind,
        "exchange": message.exchange,
        "queue": message.queue,
        "mandatory": message.mandatory,
        "has_outcome": message.has_outcome,
        "published_by": message.publishers,
        "meaning": message.meaning,
        "required": [field.name for field in fields if field.required],
        "optional": [field.name for field in fields if not field.required],
        "schema": message.contract.model_json_schema(),
    }
