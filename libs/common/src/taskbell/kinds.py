"""Defines what a kind of mail is: which event asks for it, who gets it, what it says, and when it expires.

There are only definitions here, so that every service can load a package with a kind, not the notifier alone. The
notifier interprets them: conditions in Python and as SQL, words and props when a mail is written.

T is the time of the mailing: its occurrence, or its arrival if it has no occurrence; for a report the report's `as_of`.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple, Protocol
from zoneinfo import ZoneInfo

from taskbell.contracts import Contract

NOW = timedelta(0)
"""T itself, as the start or end of a condition."""

DAY = timedelta(days=1)
WEEK = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Due:
    """An open task with T + start <= due_date < T + end. None: there is no limit on that side."""

    start: timedelta | None
    end: timedelta | None


@dataclass(frozen=True, slots=True)
class Open:
    """A task that is pending or in progress; with `status`, a task of that status only."""

    status: str | None = None


@dataclass(frozen=True, slots=True)
class Completed:
    """A done task with T + start <= completed_at < T + end."""

    start: timedelta
    end: timedelta


Condition = Due | Open | Completed
"""A condition on a task that is assigned to a user."""


WHO_PARAMETERS = frozenset({"at", "cursor", "last", "event"})
WHAT_PARAMETERS = frozenset({"at", "users", "event"})
INSTANT_PARAMETERS = frozenset({"users", "keys", "events"})
"""What a Statement may use: as `who`, as `what`, and as `what` of a kind whose event names its user."""

# As SQLAlchemy finds them, digits and letters of any language included, as in `tags[1 :2]`; and before `::`, where it
# finds none: `:users::bigint[]`. What it takes for a parameter must be seen when a package is checked.
_PARAMETER = re.compile(r"(?<![:\w\\]):(\w+)")


@dataclass(frozen=True, slots=True)
class Statement:
    """Read-only SQL of a package, run as the role taskbell_notifier. `{app}` stands for the web app's schema.

    Parameters have types already. A colon before a word that is not a parameter is written `\\:`.

    As `who` it selects one column of user ids. It may use :at (T, timestamptz), :event, :cursor and :last (bigint).
    Only ids with cursor < id <= last count, and a statement that selects no others costs least.

    As `what` it selects `user_id` and any other columns for the users in :users (bigint[]) at :at, with :event; a user
    without a row gets no mail. Keep the rows few: those of a hundred users are in memory at once, 20,000 at most. It
    may take 10 s, and must not call a function that writes.

    For a kind whose event names its user, `what` has three arrays instead, with one element for each event: :users,
    :keys (text[]) and :events (jsonb[]). It selects `user_id` and `key`, and any other columns.

    :event (jsonb) has the fields that the event's contract adds to MailingDue. Each of :events has those that it adds
    to UserEvent, and `task_id`.
    """

    sql: str

    @property
    def parameters(self) -> frozenset[str]:
        """The names of the parameters that it uses."""
        return frozenset(_PARAMETER.findall(self.sql))

    def with_parameters(self, written: Callable[[str], str], app: str) -> str:
        """The SQL with the web app's schema, quoted, in place of `{app}`, and each parameter as `written` gives it."""
        sql = self.sql.strip().removesuffix(";")
        return _PARAMETER.sub(lambda found: written(found[1]), sql).replace("{app}", app)


@dataclass(frozen=True, slots=True)
class NamedUser:
    """The user whom the event names; `event` is a UserEvent, and its key makes the period."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Mail addresses instead of users; a use case of the notifier provides them."""


Who = tuple[Condition, ...] | Statement | NamedUser | Addresses
"""Who gets a kind. With conditions: every active user to whom a task is assigned that meets one of them."""


@dataclass(frozen=True, slots=True)
class TaskList:
    """The assigned tasks that meet a condition, soonest due first; tasks beyond `limit` are only counted."""

    condition: Due
    limit: int


@dataclass(frozen=True, slots=True)
class AssignedTasks:
    """Lists and counts of a user's tasks, each under a name. If all are empty, the user gets no mail."""

    lists: Mapping[str, TaskList] = field(default_factory=dict)
    counts: Mapping[str, Open | Completed] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NamedTask:
    """The task that a UserEvent names, if it is still assigned to that user and open."""


@dataclass(frozen=True, slots=True)
class StoredReport:
    """The stored daily report of the date in the mailing."""


@dataclass(frozen=True, slots=True)
class NoContent:
    """Nothing is read: the mail has only the words of its kind."""


What = AssignedTasks | Statement | NamedTask | StoredReport | NoContent
"""What a mail is made of; it is read when the mail is written."""


class Period(StrEnum):
    """The period that one mail of a kind stands for; a recipient gets one mail for each period."""

    DAY = "day"
    """The recipient's local date of T."""
    WEEK = "week"
    """The Monday of the recipient's local week of T."""
    KEY = "key"
    """The key of the UserEvent, as `key:…`."""
    REPORT = "report"
    """The report's date."""
    MESSAGE = "message"
    """The command's message_id."""


@dataclass(frozen=True, slots=True)
class Task:
    """A task as the web app's tables have it. A task with an unknown status is neither open nor done."""

    id: int
    title: str
    project: str | None
    status: str
    priority: str | None
    due_date: datetime | None
    completed_at: datetime | None

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "Task":
        """The task of a row that has its columns under the names of these attributes; `project` is a name.

        Columns besides `id` and `title` may be missing: status then is pending, the others are None.
        """
        return cls(
            id=row["id"],
            title=row["title"] or "",
            project=row.get("project"),
            status=row.get("status") or "pending",
            priority=row.get("priority"),
            due_date=row.get("due_date"),
            completed_at=row.get("completed_at"),
        )


@dataclass(frozen=True, slots=True)
class Recipient:
    """The recipient of a mail; `user_id` is None if the address is not a user's (reports, test mails)."""

    user_id: int | None
    name: str
    address: str
    zone: ZoneInfo
    locale: str | None = None


class Listed(NamedTuple):
    """The first tasks of a list, and the number of the others."""

    tasks: tuple[Task, ...]
    more: int = 0

    @property
    def total(self) -> int:
        """The number of all tasks, listed or only counted."""
        return len(self.tasks) + self.more


@dataclass(frozen=True, slots=True)
class Found:
    """The result of AssignedTasks for one user, under the names of its lists and counts."""

    lists: Mapping[str, Listed]
    counts: Mapping[str, int]


Rows = tuple[Mapping[str, Any], ...]
"""The result of a Statement for one user: its rows, each by column."""


class KindWords(NamedTuple):
    """The names and sentences of a kind of mail, in one language. `%(product)s` is replaced by the product's name."""

    title: str
    """The plural name, as the daily report lists it: "Reminders"."""
    reason: str
    """One sentence which says why the recipient gets the mail."""
    unsubscribe: str = ""
    """The label of the unsubscribe link."""
    unsubscribed: str = ""
    """The text of the web page after unsubscribing."""


class Button(NamedTuple):
    """The button of a mail."""

    label: str
    url: str | None
    """None: the web app's address is not known, so the mail has no button."""


@dataclass(frozen=True, slots=True)
class MailText:
    """The text of one mail to one recipient; the layout is the same for all kinds.

    Attributes:
        teasers: as many of these as fit become the line that an inbox shows beside the subject.
        props: the value of `mail` in the kind's own templates.
    """

    subject: str
    heading: str
    lead: str
    teasers: tuple[str, ...] = ()
    button: Button | None = None
    props: object = None


class MailContext(Protocol):
    """The context of one mail: its recipient, its moment, and the words of the recipient's language."""

    @property
    def product(self) -> str:
        """The product's name in mails."""

    @property
    def app_url(self) -> str | None:
        """The web app's address; None: it is not known."""

    @property
    def recipient(self) -> Recipient: ...

    @property
    def at(self) -> datetime:
        """T, in UTC."""

    @property
    def now(self) -> datetime:
        """The moment of writing, in UTC."""

    @property
    def local(self) -> datetime:
        """`now` in the recipient's zone."""

    def gettext(self, words: str, /) -> str:
        """These words in the recipient's language; unchanged if no catalogue has them."""

    def plural(self, one: str, many: str, count: int, **values: object) -> str:
        """The form of the sentence for that count; `%(n)s` stands for the count."""

    def number(self, value: int) -> str:
        """A number in the format of the recipient's locale."""

    def day(self, value: date) -> str:
        """A date with its weekday; without its year if that is the present one."""

    def title(self, task: Task) -> str:
        """A task's title, cleaned and short enough for a subject or a sentence."""

    def task_url(self, task_id: int) -> str | None:
        """The address of a task; None: it is not known."""

    def task_line(self, task: Task) -> object:
        """A task for the shared template parts `_name.html.j2`, `_meta.html.j2` and `_task.txt.j2`."""


Gettext = Callable[[str], str]


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """A kind of mail.

    Attributes:
        name: small letters, digits and `_`. It is in the ledger, in List-Id and in Message-ID, so it must never change.
        event: the contract of the message that asks for it; the notifier consumes that message.
        expiry: how long after T its mails are sent; MAIL_EXPIRY_HOURS_<NAME> overrides it.
        words: is given gettext, and returns the names and sentences of the kind.
        compose: is given the context and the content, which is what `what` gives for the recipient, and returns the
            text of one mail.
        sample: is given a moment, and returns content for `taskbell mail preview`.
        unsubscribe: the code in the kind's unsubscribe links, which must never change; None: nobody can unsubscribe.
            The code of a package's kind is its name.
        package: the package whose folder `templates/` has NAME.html.j2 and NAME.txt.j2, and whose folder `locales/`
            may have catalogues.
    """

    name: str
    event: type[Contract]
    who: Who
    what: What
    period: Period
    expiry: timedelta
    words: Callable[[Gettext], KindWords]
    compose: Callable[[Any, Any], MailText]
    sample: Callable[[datetime], object]
    unsubscribe: int | str | None
    package: str

    @property
    def is_planned(self) -> bool:
        """True if the planner finds its recipients, page by page, when its event comes."""
        return isinstance(self.who, tuple | Statement)

    @property
    def is_instant(self) -> bool:
        """True if its event names the one user who gets the mail."""
        return isinstance(self.who, NamedUser)

    @property
    def goes_to_users(self) -> bool:
        """True if its recipients are users, who have preferences and unsubscribe links."""
        return not isinstance(self.who, Addresses)
