"""deploy/rabbitmq/definitions.json is the topology, for brokers that are kept in files."""

import json
from pathlib import Path

from taskbell.messaging.topology import topology
from taskbell.setup.definitions import definitions, definitions_file

FILE = Path(__file__).parents[2] / "deploy" / "rabbitmq" / "definitions.json"
SHIPPED = json.loads(FILE.read_text())


def test_the_file_is_what_the_tool_prints() -> None:
    assert FILE.read_text() == definitions_file(), "run: tools/export-definitions > deploy/rabbitmq/definitions.json"


def test_it_has_the_exchanges_of_the_topology() -> None:
    assert {(it["name"], it["type"]) for it in SHIPPED["exchanges"]} == {
        (it.name, it.type) for it in topology().exchanges
    }
    assert all(it["durable"] and not it["auto_delete"] and not it["internal"] for it in SHIPPED["exchanges"])


def test_it_has_the_queues_of_the_topology_with_all_their_arguments() -> None:
    assert {it["name"]: it["arguments"] for it in SHIPPED["queues"]} == {
        it.name: it.arguments for it in topology().queues
    }
    assert all(it["durable"] and not it["auto_delete"] for it in SHIPPED["queues"])


def test_it_has_the_bindings_of_the_topology() -> None:
    assert {(it["source"], it["destination"], it["routing_key"]) for it in SHIPPED["bindings"]} == {
        (it.exchange, it.queue, it.routing_key) for it in topology().bindings
    }
    assert {it["destination_type"] for it in SHIPPED["bindings"]} == {"queue"}


def test_nothing_is_declared_twice() -> None:
    wanted = topology()
    assert [len(SHIPPED[kind]) for kind in ("exchanges", "queues", "bindings")] == [
        len(wanted.exchanges),
        len(wanted.queues),
        len(wanted.bindings),
    ]


def test_it_has_no_users_permissions_or_policies() -> None:
    assert set(SHIPPED) == {"vhosts", "exchanges", "queues", "bindings"}


def test_another_virtual_host_is_named_everywhere() -> None:
    assert '"/"' not in json.dumps(definitions("shop"))
    assert {it["vhost"] for kind in ("exchanges", "queues", "bindings") for it in definitions("shop")[kind]} == {"shop"}
