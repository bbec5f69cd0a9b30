"""What a kind of mail is: what asks for it, who gets it, what it says, and for how long it is worth sending.

These are definitions only, so that a package which brings a kind loads in every service, not in the notifier alone. The
notifier interprets them: conditions once in Python and once as SQL, words and props when a mail is written.

T is the time of the mailing: of its occurrence, or of the moment at which it was asked for by hand.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple, Protocol
from zoneinfo import ZoneInfo

from taskbell.contracts import Contract

NOW = timedelta(0)
"""As the start or end of a condition: T itself."""

DAY = timedelta(days=1)
WEEK = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Due:
    """An open task with T + start <= due_date < T + end; None: no limit on that side."""

    start: timedelta | None
    end: timedelta | None


@dataclass(frozen=True, slots=True)
class Open:
    """A task that is pending or in progress; with `status`, one of that status alone."""

    status: str | None = None


@dataclass(frozen=True, slots=True)
class Completed:
    """A task that is done, with T + start <= completed_at < T + end."""

    start: timedelta
    end: timedelta


Condition = Due | Open | Completed
"""What a task that is assigned to somebody may meet."""


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL of a package's own, read-only, run as the role taskbell_notifier.

    `{app}` stands for the web app's schema.

    As `who` it selects one column of user ids. It may use :at (T), :cursor and :last: only ids with cursor < id <= last
    are wanted, and a statement that keeps to them costs least. As `what` it selects `user_id` and any other columns for
    the users in :users (bigint[]) at :at; a user without a row has nothing to be told. For a kind whose event names its
    user it has :users and :keys (text[]), a key for each user, instead of :at, and selects `key` too.
    """

    sql: str


@dataclass(frozen=True, slots=True)
class NamedUser:
    """The user whom the event names: `event` is a UserEvent, and the period is its key."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Mail addresses instead of users; a use case of the notifier knows them."""


Who = tuple[Condition, ...] | Statement | NamedUser | Addresses
"""Who gets it. Conditions: every active user who is assigned a task that meets one of them."""


@dataclass(frozen=True, slots=True)
class TaskList:
    """The assigned tasks that meet a condition, soonest due first; those beyond `limit` are only counted."""

    condition: Due
    limit: int


@dataclass(frozen=True, slots=True)
class AssignedTasks:
    """What a person's tasks give to say: lists and counts, each under a name. All empty: nothing to say."""

    lists: Mapping[str, TaskList] = field(default_factory=dict)
    counts: Mapping[str, Open | Completed] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NamedTask:
    """The task that a UserEvent names, if it is still assigned to that user and open."""


@dataclass(frozen=True, slots=True)
class StoredReport:
    """The daily report of the date that the mailing names."""


@dataclass(frozen=True, slots=True)
class NoContent:
    """The words of the kind are all that it says."""


What = AssignedTasks | Statement | NamedTask | StoredReport | NoContent
"""What a mail is made of, read again when it is written."""


class Period(StrEnum):
    """What one mail of a kind stands for: a recipient gets one a period."""

    DAY = "day"
    """The recipient's local date of T."""
    WEEK = "week"
    """The Monday of the recipient's local week of T."""
    KEY = "key"
    """The key that a UserEvent brings, as `key:…`."""
    REPORT = "report"
    """The report's date."""
    MESSAGE = "message"
    """The command's message_id."""


@dataclass(frozen=True, slots=True)
class Task:
    """A task as the web app's tables have it; a status or priority that we do not know is neither open nor done."""

    id: int
    title: str
    project: str | None
    status: str
    priority: str | None
    due_date: datetime | None
    completed_at: datetime | None


@dataclass(frozen=True, slots=True)
class Recipient:
    """Whom a mail goes to; `user_id` is None if the address is not a user's (reports, test mails)."""

    user_id: int | None
    name: str
    address: str
    zone: ZoneInfo
    locale: str | None = None


class Listed(NamedTuple):
    """The first tasks of a list, and how many there are besides."""

    tasks: tuple[Task, ...]
    more: int = 0

    @property
    def total(self) -> int:
        """All of them, listed or only counted."""
        return len(self.tasks) + self.more


@dataclass(frozen=True, slots=True)
class Found:
    """What AssignedTasks gives for one person, under the names of its lists and counts."""

    lists: Mapping[str, Listed]
    counts: Mapping[str, int]


Rows = tuple[Mapping[str, Any], ...]
"""What a Statement gives for one person: its rows, each by column."""


class KindWords(NamedTuple):
    """What a kind of mail is called, in one language. `%(product)s` is filled in."""

    title: str
    """Several of them, as the daily report lists them: "Reminders"."""
    reason: str
    """Why its recipient gets it, in one sentence."""
    unsubscribe: str = ""
    """What the link is called that ends these mails."""
    unsubscribed: str = ""
    """What the page says once they are ended."""


class Button(NamedTuple):
    """The one button of a mail."""

    label: str
    url: str | None
    """None if the web app's address is not known: then there is no button."""


@dataclass(frozen=True, slots=True)
class MailText:
    """What a mail of that kind says to one recipient; the layout is the same for all kinds.

    Attributes:
        teasers: of these, as many as fit become the line that an inbox shows beside the subject.
        props: what the kind's own templates see as `mail`.
    """

    subject: str
    heading: str
    lead: str
    teasers: tuple[str, ...] = ()
    button: Button | None = None
    props: object = None


class MailContext(Protocol):
    """One recipient at the moment of writing, with the words of their language."""

    @property
    def product(self) -> str:
        """The name that mails carry."""

    @property
    def app_url(self) -> str | None:
        """The web app's address, if it is known."""

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
        """These words in the recipient's language; as they are if no catalogue has them."""

    def plural(self, one: str, many: str, count: int, **values: object) -> str:
        """The form of the sentence for that count, which it names `%(n)s`."""

    def number(self, value: int) -> str:
        """A number as the recipient's locale writes it."""

    def day(self, value: date) -> str:
        """A date with its weekday, without the year if it is the present one."""

    def title(self, task: Task) -> str:
        """A task's title, fit for a subject or a sentence."""

    def task_url(self, task_id: int) -> str | None:
        """The address of a task, if the web app's is known."""

    def task_line(self, task: Task) -> object:
        """A task as the shared template parts show it: `_name.html.j2`, `_meta.html.j2`, `_task.txt.j2`."""


Gettext = Callable[[str], str]


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """A kind of mail.

    Attributes:
        name: in the ledger, in List-Id and Message-ID for ever: small letters, digits and `_`.
        event: the message that asks for it; it is consumed by the notifier.
        expiry: how long after T a mail of it is still worth sending; MAIL_EXPIRY_HOURS_<NAME> overrides it.
        words: given gettext, what the kind is called.
        compose: given context and content, what one mail says. The content is what `what` gives for the recipient.
        sample: given a moment, content for `taskbell mail preview`.
        unsubscribe: the code in the kind's unsubscribe links, for ever; None: nobody can unsubscribe from it. A
            package's kind uses its own name.
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
        """Whether people are searched for, page by page, when its event comes."""
        return isinstance(self.who, tuple | Statement)

    @property
    def is_instant(self) -> bool:
        """Whether its event names the one user who gets it."""
        return isinstance(self.who, NamedUser)

    @property
    def goes_to_users(self) -> bool:
        """Whether preferences and unsubscribe links exist for it."""
        return not isinstance(self.who, Addresses)
