"""The service's handlers: hours are logged, and are to be billed as soon as their task is done."""

from sqlalchemy import text

from taskbell.contracts import TaskStatusChanged
from taskbell.extend import Outcome
from taskbell.faststream import HandledMessages, MessageEnvelope, TaskbellRouter, Transaction
from taskbell_timesheets import HoursLogged, LogHours

LOG = text("INSERT INTO timesheets.entry (task_id, hours, note) VALUES (:task_id, :hours, :note)")
BILL = text("UPDATE timesheets.entry SET to_bill = true WHERE task_id = :task_id AND NOT to_bill")


def timesheets(handled: HandledMessages) -> TaskbellRouter:
    """The router; what its handlers write is committed by that store."""
    taskbell = TaskbellRouter("timesheets", handled=handled)
    logged = taskbell.publishes(HoursLogged)

    @taskbell.consumes(LogHours)
    async def log_hours(command: LogHours, envelope: MessageEnvelope, transaction: Transaction) -> Outcome:
        known = command.model_dump()
        await transaction.execute(LOG, known)
        # If this handler runs again, its event has the same message_id and the same body, so it holds no id of a row.
        await logged.publish(HoursLogged(**known), message_id=f"{envelope.message_id}.logged", cause=envelope)
        return Outcome.done(task_id=command.task_id, hours=command.hours)

    @taskbell.consumes(TaskStatusChanged)
    async def status_changed(task: TaskStatusChanged, transaction: Transaction) -> None:
        if task.new_status == "done":
            await transaction.execute(BILL, {"task_id": task.task_id})

    return taskbell
