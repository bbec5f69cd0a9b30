"""Status updates: commands that wait together are applied together, with the same effect as one by one."""

from collections.abc import Mapping, Sequence
from functools import partial

from taskbell.commands import CommandLog, Outcome
from taskbell.contracts import TaskStatusChanged, UpdateTaskStatus
from taskbell.database import Transaction
from taskbell.messaging.consuming.delivery import Received
from taskbell.outbox import Outbox, OutboxMessage
from taskbell_maintenance.domain import Decision, StatusChange, Unchanged, decide, rounds, settled
from taskbell_maintenance.repository import statuses
from taskbell_maintenance.repository.locks import TaskLocks
from taskbell_maintenance.repository.statuses import Refused

UpdateCommand = Received[UpdateTaskStatus]


class StatusUpdates:
    """The use case of `maintenance.update_task_status`."""

    def __init__(self, commands: CommandLog, locks: TaskLocks, outbox: Outbox) -> None:
        self._commands = commands
        self._locks = locks
        self._outbox = outbox

    async def update(self, commands: Sequence[UpdateCommand]) -> None:
        """Applies a set of commands in one transaction, each at most once.

        If the table refuses one of them, all are applied again in a second transaction, which finds and rejects it.
        """
        try:
            await self._commands.run(commands, partial(self._apply, apart=False))
        except Refused:
            await self._commands.run(commands, partial(self._apply, apart=True))

    async def _apply(
        self, transaction: Transaction, commands: Sequence[UpdateCommand], *, apart: bool
    ) -> Sequence[Outcome]:
        outcomes: dict[str, Outcome] = {}
        events: list[OutboxMessage] = []
        for some in rounds(commands, key=lambda command: command.body.task_id):
            for command, outcome in await self._one_round(transaction, some, apart=apart):
                outcomes[command.message_id] = outcome
                if outcome.state == "done":
                    events.append(_event(command, outcome))
        await self._outbox.add(transaction, events)
        return [outcomes[command.message_id] for command in commands]

    async def _one_round(
        self, transaction: Transaction, commands: Sequence[UpdateCommand], *, apart: bool
    ) -> Sequence[tuple[UpdateCommand, Outcome]]:
        """Applies commands of which no two are for the same task."""
        ids = [command.body.task_id for command in commands]
        known = await statuses.lock_statuses(transaction, self._locks, ids)
        decisions = [(command, decide(command.body, known)) for command in commands]
        changes = [decision for _, decision in decisions if isinstance(decision, StatusChange)]
        written: Mapping[int, str | None] = {}
        reasons: Mapping[int, str] = {}
        if changes and apart:
            written, reasons = await statuses.change_statuses_apart(transaction, self._locks.app, changes)
        elif changes:
            written = await statuses.change_statuses(transaction, self._locks.app, changes)
        return [(command, _outcome(settled(decision, written, reasons))) for command, decision in decisions]


def _outcome(decision: Decision) -> Outcome:
    if isinstance(decision, StatusChange):
        return Outcome.done(task_id=decision.task_id, old_status=decision.old, new_status=decision.new)
    if isinstance(decision, Unchanged):
        return Outcome.unchanged(task_id=decision.task_id, status=decision.status)
    return Outcome.rejected(decision.reason, task_id=decision.task_id, status=decision.status)


def _event(command: UpdateCommand, outcome: Outcome) -> OutboxMessage:
    assert outcome.result is not None  # the outcome `done` always has a result
    return OutboxMessage(
        TaskStatusChanged(
            task_id=command.body.task_id,
            old_status=outcome.result["old_status"] or "",
            new_status=outcome.result["new_status"],
            requested_by=command.body.requested_by,
        ),
        correlation_id=command.envelope.correlation_id or command.message_id,
    )
