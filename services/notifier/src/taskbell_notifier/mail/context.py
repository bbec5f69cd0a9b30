"""The context of one mail (`taskbell.kinds.MailContext`): its recipient, its moment and the recipient's words."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime

from taskbell.kinds import Recipient, Task
from taskbell_notifier.mail import clean
from taskbell_notifier.mail.links import Links
from taskbell_notifier.mail.words import Localizer


@dataclass(frozen=True, slots=True)
class Installation:
    """What all mails of one installation share.

    Attributes:
        entry: makes the entry of a task, as the shared template parts show it.
    """

    product: str
    links: Links
    entry: "Callable[[WritingContext, Task], object]"


@dataclass(frozen=True, slots=True)
class WritingContext:
    """A recipient, the moment, and the words of the recipient's locale."""

    installation: Installation
    localizer: Localizer
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
        return self.localizer.gettext(words)

    def plural(self, one: str, many: str, count: int, **values: object) -> str:
        return self.localizer.plural(one, many, count, **values)

    def number(self, value: int) -> str:
        return self.localizer.dates.number(value)

    def day(self, value: date) -> str:
        return self.localizer.dates.day(value, self.local.year)

    def title(self, task: Task) -> str:
        """The title, short enough for a subject or a sentence."""
        return self.shown_title(task, clean.SUBJECT_TITLE_GRAPHEMES)

    def shown_title(self, task: Task, graphemes: int) -> str:
        """The title, cleaned and cut; if nothing of it can be shown, words that say so."""
        return clean.title(task.title, graphemes) or self.gettext("(no title)")

    def task_url(self, task_id: int) -> str | None:
        return self.installation.links.task(task_id)

    def task_line(self, task: Task) -> object:
        return self.installation.entry(self, task)
