"""Timesheets: a service beside Taskbell's, with a command and an event of its own."""

from typing import Annotated

from pydantic import Field

from taskbell.extend import Contract, Extension, Grant, Id, Listen, Message, Text

Hours = Annotated[float, Field(gt=0, le=24, multiple_of=0.25)]
"""Hours in quarters, at most a day's."""


class LogHours(Contract):
    """Log the hours that somebody worked on a task."""

    task_id: Id
    hours: Hours
    note: Text | None = None


class HoursLogged(Contract):
    """Hours were logged on a task."""

    task_id: Id
    hours: Hours
    note: Text | None = None


extension = Extension(
    messages=(
        Message(
            routing_key="timesheets.log_hours",
            kind="command",
            contract=LogHours,
            publishers="anyone",
            meaning="log the hours that somebody worked on a task",
            consumer="timesheets",
            by_anyone=True,
        ),
        Message(
            routing_key="hours.logged",
            kind="event",
            contract=HoursLogged,
            publishers="timesheets",
            meaning="hours were logged on a task",
            consumer=None,
            by_anyone=False,
            published_by=("timesheets",),
        ),
    ),
    listens=(Listen("timesheets", "task.status_changed"),),
    grants=(
        Grant("timesheets", "timesheets.entry", ("SELECT", "INSERT", "UPDATE (to_bill)")),
        Grant("timesheets", "timesheets.handled_message", ("SELECT", "INSERT", "UPDATE", "DELETE")),
    ),
)
