"""For apps of your own on FastStream: consume Taskbell's events, publish its commands; docs/faststream.md shows how.

    broker = RabbitBroker(BROKER_URL)
    taskbell = TaskbellRouter("timesheets")

    @taskbell.consumes(TaskStatusChanged)
    async def changed(task: TaskStatusChanged) -> None: ...

    broker.include_router(taskbell)

It needs `taskbell[faststream]`, and uses FastStream's public API only.
"""

from taskbell.faststream.context import MessageEnvelope, Transaction
from taskbell.faststream.handled import HandledInMemory, HandledMessages
from taskbell.faststream.publishing import MessagePublisher
from taskbell.faststream.router import TaskbellRouter

__all__ = [
    "HandledInMemory",
    "HandledMessages",
    "MessageEnvelope",
    "MessagePublisher",
    "TaskbellRouter",
    "Transaction",
]
