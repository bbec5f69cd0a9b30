"""The errors of the development servers. Their texts are sentences for the person at the terminal.

DevstackError
├── ProgramsMissing     RabbitMQ or PostgreSQL is not installed, and we cannot install it
├── NotReady            a process ended, or did not answer within its time limit
└── DemoFailed          the demo's mails, report or changes did not happen within their time limit
"""

from taskbell.errors import TaskbellError


class DevstackError(TaskbellError):
    """The development servers cannot do what was asked."""


class ProgramsMissing(DevstackError):
    """A server's programs are not installed; the message names what to install."""


class NotReady(DevstackError):
    """A process ended early or did not answer in time; the message ends with the tail of its log."""


class DemoFailed(DevstackError):
    """Something that the demo started did not happen in time; the message names it."""
