"""How we connect: in one place, with a name and with our heartbeat."""

import ast
from pathlib import Path

import pytest

from taskbell.messaging.wire.connection import connection_url

ROOT = Path(__file__).parents[4]
ONE_PLACE = "libs/common/src/taskbell/messaging/wire/connection.py"
LIBRARIES = {"aiormq", "aio_pika"}
WAYS = {"connect", "connect_robust", "Connection", "RobustConnection"}


def connecting() -> set[str]:
    """The files of ours that connect to RabbitMQ."""
    found = set()
    for path in [*ROOT.glob("libs/common/src/**/*.py"), *ROOT.glob("services/*/src/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            named = isinstance(node, ast.ImportFrom) and node.module is not None
            if named and node.module.split(".")[0] in LIBRARIES:
                ways = {it.name for it in node.names}
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in LIBRARIES:
                ways = {node.attr}
            else:
                continue
            if ways & WAYS:
                found.add(str(path.relative_to(ROOT)))
    return found


def test_one_file_alone_connects() -> None:
    assert connecting() == {ONE_PLACE}


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("amqp://u:p@mq:5672/v", "amqp://u:p@mq:5672/v?heartbeat=8&name=taskbell+x"),
        ("amqps://mq/?heartbeat=30&cafile=/ca.pem", "amqps://mq/?heartbeat=30&cafile=%2Fca.pem&name=taskbell+x"),
    ],
)
def test_the_url_gets_a_name_and_a_heartbeat_unless_it_has_one(url: str, expected: str) -> None:
    assert connection_url(url, "taskbell x") == expected
