"""One recipient at the moment of writing: what every mail is made with (`taskbell.kinds.MailContext`)."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime

from taskbell.kinds import Recipient, Task
from taskbell_notifier.mail import clean
from taskbell_notifier.mail.links import Links
from taskbell_notifier.mail.words import Voice


@dataclass(frozen=True, slots=True)
class Installation:
    """What all mails of one installation share.

    Attributes:
        entry: a task as the shared template parts show it.
    """

    product: str
    links: Links
    entry: "Callable[[WritingContext, Task], object]"


@dataclass(frozen=True, slots=True)
class WritingContext:
    """A recipient, the moment and the words."""

    installation: Installation
    voice: Voice
    recipient: Recipient
    at: datetime
    """T."""
    now: datetime
    local: datetime
    """`now` in the recipient's zone."""
    unsubscribe_url: str | None = None

    @property
    def product(self) -> str:
        return self.installation.product

    @property
    def app_url(self) -> str | None:
        return self.installation.links.app_url

    def gettext(self, words: str, /) -> str:
        return self.voice.gettext(words)

    def plural(self, one: str, many: str, count: int, **values: object) -> str:
        return self.voice.plural(one, many, count, **values)

    def number(self, value: int) -> str:
        return self.voice.dates.number(value)

    def day(self, value: date) -> str:
        return self.voice.dates.day(value, self.local.year)

    def title(self, task: Task) -> str:
        """The title as a subject or a sentence may hold it."""
        return self.shown_title(task, clean.SUBJECT_TITLE_GRAPHEMES)

    def shown_title(self, task: Task, graphemes: int) -> str:
        """The title, fit to be shown; if nothing of it can be, words that say so."""
        return clean.title(task.title, graphemes) or self.gettext("(no title)")

    def task_url(self, task_id: int) -> str | None:
        return self.installation.links.task(task_id)

    def task_line(self, task: Task) -> object:
        return self.installation.entry(self, task)
