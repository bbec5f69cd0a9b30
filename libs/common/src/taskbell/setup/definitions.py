"""The topology in RabbitMQ's definitions format, for brokers that are configured by files.

It holds no users, permissions or secrets.
"""

import json
from typing import Any

from taskbell.messaging.topology import topology


def definitions(vhost: str = "/") -> dict[str, Any]:
    """The topology as `rabbitmqctl import_definitions` reads it. `taskbell setup` then has nothing left to declare."""
    wanted = topology()
    return {
        "vhosts": [{"name": vhost}],
        "exchanges": [
            {
                "name": exchange.name,
                "vhost": vhost,
                "type": exchange.type,
                "durable": True,
                "auto_delete": False,
                "internal": False,
                "arguments": {},
            }
            for exchange in wanted.exchanges
        ],
        "queues": [
            {"name": queue.name, "vhost": vhost, "durable": True, "auto_delete": False, "arguments": queue.arguments}
            for queue in wanted.queues
        ],
        "bindings": [
            {
                "source": binding.exchange,
                "vhost": vhost,
                "destination": binding.queue,
                "destination_type": "queue",
                "routing_key": binding.routing_key,
                "arguments": {},
            }
            for binding in wanted.bindings
        ],
    }


def definitions_file(vhost: str = "/") -> str:
    """The definitions as the text of a JSON file."""
    return json.dumps(definitions(vhost), indent=2) + "\n"
