"""The client for web apps: publishes any event or command in one line, and returns how a command ended.

    from taskbell.client import Client
    from taskbell.contracts import UpdateTaskStatus

    taskbell = Client("amqp://app:password@rabbitmq:5672/")
    taskbell.publish(UpdateTaskStatus(task_id=1, new_status="done"))

`Client` is for plain blocking code in threads, `AsyncClient` for asyncio. Of Taskbell's dependencies they need only
pydantic and aiormq.
"""

from taskbell.client.asynchronous import AsyncClient
from taskbell.client.blocking import Client
from taskbell.contracts import CommandOutcome
from taskbell.errors import (
    BrokerUnavailable,
    OutcomeLost,
    OutcomeTimeout,
    OutcomeUnknown,
    PublishTimeout,
    TaskbellError,
    TopologyMissing,
    Unroutable,
)

__all__ = [
    "AsyncClient",
    "BrokerUnavailable",
    "Client",
    "CommandOutcome",
    "OutcomeLost",
    "OutcomeTimeout",
    "OutcomeUnknown",
    "PublishTimeout",
    "TaskbellError",
    "TopologyMissing",
    "Unroutable",
]
