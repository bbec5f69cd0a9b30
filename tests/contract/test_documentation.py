"""docs/messages.md says of every message what the catalogue says."""

import re
from pathlib import Path

import pytest

from taskbell.contracts import CATALOGUE, CommandOutcome, Message

DOCUMENT = (Path(__file__).parents[2] / "docs" / "messages.md").read_text()


def section(title: str) -> str:
    match = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", DOCUMENT, re.MULTILINE | re.DOTALL)
    assert match
    return match[1]


def row(message: Message) -> str:
    fields = message.contract.model_fields
    required = ", ".join(name for name, field in fields.items() if field.is_required())
    optional = ", ".join(f"*{name}*" for name, field in fields.items() if not field.is_required())
    body = "; ".join(part for part in (required, optional) if part)
    cells = [
        f"`{message.routing_key}`",
        message.publishers,
        message.meaning,
        f"`{message.queue}`" if message.queue else "",
        body,
    ]
    return "|" + "|".join(f" {cell} " if cell else " " for cell in cells) + "|"


@pytest.mark.parametrize(("title", "kind"), [("Events", "event"), ("Commands", "command")])
def test_the_table_has_every_message_as_it_is_and_no_other(title: str, kind: str) -> None:
    rows = [line for line in section(title).splitlines() if re.match(r"\| `[a-z_]+\.", line)]
    assert rows == [row(message) for message in CATALOGUE.values() if message.kind == kind]


def test_every_way_in_which_a_command_can_end_is_explained() -> None:
    states = CommandOutcome.model_json_schema()["properties"]["state"]["enum"]
    explained = re.findall(r"^\| `([a-z]+)` \| ", section("Commands"), re.MULTILINE)
    assert explained == states
