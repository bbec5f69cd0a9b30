"""Every error that Taskbell raises on purpose.

TaskbellError
├── SettingsError            a setting is missing or wrong; names it and the remedy
├── Never                    this message can never take effect: it goes to the dead letters
│   └── InvalidMessage       it does not validate against its contract
├── Retry                    something failed that may work later: the message waits in the retry queues
├── Unavailable              a server that we need does not answer: work pauses, and no try is counted
│   ├── DatabaseUnavailable
│   └── BrokerUnavailable
│       ├── PublishTimeout   the broker did not confirm in time; the message may still arrive
│       ├── TopologyMissing  a queue or an exchange is not there; `taskbell setup` makes it
│       └── ConsumerGone     the broker does not know of our consumer, and did not say that it is gone
├── Returned                 the session ends before this message could be handled: it goes back to its queue
├── Unroutable               the broker returned a mandatory message: no queue is bound to its key
└── OutcomeUnknown           a command was published and confirmed, but its outcome did not reach us
    ├── OutcomeTimeout       it did not come in time
    └── OutcomeLost          the connection on which it would have come was lost
"""


class TaskbellError(Exception):
    """The root of all errors of Taskbell."""

    message_id: str | None = None
    """Of the message that the client could not publish, or whose outcome it does not know."""


class SettingsError(TaskbellError):
    """A setting is missing or wrong."""


class Never(TaskbellError):
    """This message can never take effect; the error's text is the reason that the dead letter carries."""


class InvalidMessage(Never):
    """This message does not validate against its contract."""


class Retry(TaskbellError):
    """Something failed that may work later; the message is tried again after 10 s, 1 min and 10 min."""


class Unavailable(TaskbellError):
    """A server that we need does not answer; work pauses, and no try is counted."""


class DatabaseUnavailable(Unavailable):
    """PostgreSQL does not answer, or refuses connections."""


class BrokerUnavailable(Unavailable):
    """RabbitMQ does not answer, or has closed the connection."""


class PublishTimeout(BrokerUnavailable):
    """RabbitMQ did not confirm in time; the message may still arrive, under the same message_id."""


class TopologyMissing(BrokerUnavailable):
    """A queue or an exchange is missing on the broker; `taskbell setup` declares it."""


class ConsumerGone(BrokerUnavailable):
    """RabbitMQ does not know of our consumer, and did not say that it is gone."""


class Returned(TaskbellError):
    """The session ends before this message could be handled; it goes back to its queue, and no try is counted."""


class Unroutable(TaskbellError):
    """RabbitMQ returned a mandatory message: no queue is bound for its routing key."""


class OutcomeUnknown(TaskbellError):
    """The command was published and confirmed and may take effect, but its outcome did not reach us."""


class OutcomeTimeout(OutcomeUnknown):
    """The command was published and confirmed, but its outcome did not arrive in time."""


class OutcomeLost(OutcomeUnknown):
    """The command was published and confirmed, but the connection was lost before its outcome arrived."""
