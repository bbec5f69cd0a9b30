"""The public module for packages that extend Taskbell; docs/extending.md explains it.

A package offers one `Extension` by the entry point group `taskbell.extensions`. The names in this module follow
semantic versioning; everything else in Taskbell may change with any version.
"""

from taskbell.contracts import Contract, MailingDue, Message, UserEvent
from taskbell.contracts.base import Id, Moment, Text, ZoneName
from taskbell.errors import ExtensionError, Never
from taskbell.extensions import Extension, Grant, Handler, Listen
from taskbell.handling import HandlerTransaction
from taskbell.kinds import (
    DAY,
    NOW,
    WEEK,
    AssignedTasks,
    Button,
    Completed,
    Condition,
    Due,
    Found,
    Gettext,
    Kind,
    KindWords,
    Listed,
    MailContext,
    MailText,
    NamedTask,
    NamedUser,
    Open,
    Period,
    Recipient,
    Rows,
    Statement,
    Task,
    TaskList,
)
from taskbell.messaging.consuming.delivery import Envelope, Received
from taskbell.outcomes import Outcome

__all__ = [
    "DAY",
    "NOW",
    "WEEK",
    "AssignedTasks",
    "Button",
    "Completed",
    "Condition",
    "Contract",
    "Due",
    "Envelope",
    "Extension",
    "ExtensionError",
    "Found",
    "Gettext",
    "Grant",
    "Handler",
    "HandlerTransaction",
    "Id",
    "Kind",
    "KindWords",
    "Listed",
    "Listen",
    "MailContext",
    "MailText",
    "MailingDue",
    "Message",
    "Moment",
    "NamedTask",
    "NamedUser",
    "Never",
    "Open",
    "Outcome",
    "Period",
    "Received",
    "Recipient",
    "Rows",
    "Statement",
    "Task",
    "TaskList",
    "Text",
    "UserEvent",
    "ZoneName",
]
