"""Every error that Taskbell raises on purpose.

TaskbellError
├── SettingsError            a setting is missing or wrong; names it and the remedy
│   ├── ExtensionError       an installed package offers something that cannot be used
│   └── OfferedTwice         two installed packages offer something under one name
├── Mistake                  a command was used wrongly; says how to use it
├── CannotLoad               what a package offers to the command line cannot be imported
├── Never                    this message can never take effect: it goes to the dead letters
│   ├── InvalidMessage       it does not validate against its contract
│   └── AnothersId           its message_id was another message's
├── Retry                    something failed that may work later: the message waits in the retry queues
│   └── Overtaken            another delivery of the same message was committed first
├── Unavailable              a server that we need does not answer: work pauses, and no try is counted
│   ├── DatabaseUnavailable
│   └── BrokerUnavailable
│       ├── PublishTimeout   the broker did not confirm in time; the message may still arrive
│       ├── TopologyMissing  a queue or an exchange is not there; `taskbell setup` makes it
│       └── ConsumerGone     the broker does not know of our consumer, and did not say that it is gone
├── Returned                 the session ends before this message could be handled: it goes back to its queue
├── UnknownMessage           an outbox row's routing key is not in the catalogue
├── Unroutable               the broker returned a mandatory message: no queue is bound to its key
└── OutcomeUnknown           a command was published and confirmed, but its outcome did not reach us
    ├── OutcomeTimeout       it did not come in time
    └── OutcomeLost          the connection on which it would have come was lost

The services and the development servers add their own, where they are raised:

SettingsError
└── SchedulesError           taskbell_scheduler.schedules: the schedules file has mistakes
Unavailable
└── MailServerUnavailable    taskbell_notifier.delivery.mail_server: sending is paused
TaskbellError
├── UnknownKind              taskbell_notifier.kinds.table: no kind of mail has that name or event; also a KeyError
├── StatementError           taskbell_notifier.repository.statements: a package's statement cannot be used
│   └── TooManyRows          taskbell_notifier.repository.statements: it selects more than is read at once
├── SplitGroup               taskbell_notifier.delivery.group_commit: one of several items is at fault
├── Refused                  taskbell_maintenance.repository.statuses: the app's table refuses a change
├── AnothersBatch            taskbell_maintenance.repository.batches: another cleanup has begun under this message_id
├── Obstructed               taskbell_maintenance.repository.archive: a task of a page cannot be taken
└── DevstackError            taskbell_devstack.errors, which draws what is below it

One stands apart: CronError of taskbell_scheduler.cron is a ValueError, as every check of a schedule's field raises one.
"""


class TaskbellError(Exception):
    """The root of all errors of Taskbell."""

    message_id: str | None = None
    """Of the message that the client could not publish, or whose outcome it does not know."""


class SettingsError(TaskbellError):
    """A setting is missing or wrong."""


class ExtensionError(SettingsError):
    """An installed package offers something that cannot be used; the message names the package and the thing."""


class OfferedTwice(SettingsError):
    """Two installed packages offer something under one name; names both."""


class Mistake(TaskbellError):
    """A command was used wrongly; the error's text says how to use it."""


class CannotLoad(TaskbellError):
    """An installed package offers something to the command line that cannot be imported."""


class Never(TaskbellError):
    """This message can never take effect; the error's text is the reason that the dead letter carries."""


class InvalidMessage(Never):
    """This message does not validate against its contract."""


class AnothersId(Never):
    """Another message came first under this message's message_id, which belongs to that one."""


class Retry(TaskbellError):
    """Something failed that may work later; the message is tried again after 10 s, 1 min and 10 min."""


class Overtaken(Retry):
    """Another delivery of the same message took effect while this one was handled; nothing of this one may stay."""


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


class UnknownMessage(TaskbellError):
    """An outbox row's routing key is not in the catalogue, such as one of a package that was removed."""


class Unroutable(TaskbellError):
    """RabbitMQ returned a mandatory message: no queue is bound for its routing key."""


class OutcomeUnknown(TaskbellError):
    """The command was published and confirmed and may take effect, but its outcome did not reach us."""


class OutcomeTimeout(OutcomeUnknown):
    """The command was published and confirmed, but its outcome did not arrive in time."""


class OutcomeLost(OutcomeUnknown):
    """The command was published and confirmed, but the connection was lost before its outcome arrived."""
