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
    from taskbell.catalogue import catalogue, package_of
    from taskbell.cli.bodies import fields_of
    from taskbell.extensions import installed

    messages = catalogue().values()
    if as_json:
        print_json([_described(message) for message in messages])
        return
    columns = ["routing key", "exchange", "queue", "by", "meaning"]
    rows = [[it.routing_key, it.exchange, it.queue, it.publishers, it.meaning] for it in messages]
    if installed():
        columns.append("package")
        rows = [[*row, package_of(it.routing_key)] for row, it in zip(rows, messages, strict=True)]
    print_table(columns, rows)
    for message in messages:
        print(f"\n{message.routing_key}")
        for field in fields_of(message.contract):
            print(f"  {field.name:16} {'required' if field.required else 'optional'}  {field.type}")


def _described(message: Any) -> dict[str, Any]:
    from taskbell.catalogue import package_of
    from taskbell.cli.bodies import fields_of

    fields = fields_of(message.contract)
    return {
        "routing_key": message.routing_key,
        "kind": message.kind,
        "exchange": message.exchange,
        "queue": message.queue,
        "consumer": message.consumer,
        "package": package_of(message.routing_key),
        "mandatory": message.mandatory,
        "has_outcome": message.has_outcome,
        "published_by": message.publishers,
        "meaning": message.meaning,
        "required": [field.name for field in fields if field.required],
        "optional": [field.name for field in fields if not field.required],
        "schema": message.contract.model_json_schema(),
    }
