"""The test mail, which proves that mail works. (The file is not test_mail.py, because tools would collect that.)"""

from datetime import datetime, timedelta
from typing import NamedTuple

from taskbell.contracts import SendTestMail
from taskbell.kinds import Addresses, Gettext, Kind, KindWords, MailText, NoContent, Period
from taskbell_notifier.mail.context import WritingContext

_NO_YEAR = 0
"""Given as the present year, so that the date is written with its own year."""


class TrialProps(NamedTuple):
    """The props of the templates."""

    sent: str


def words(_: Gettext) -> KindWords:
    """The names and sentences of this kind."""
    return KindWords(
        title=_("Test mails"),
        reason=_("You get this mail because a test mail to your address was asked for in %(product)s."),
    )


def compose(context: WritingContext, _: object) -> MailText:
    """Says that the mail has arrived."""
    localizer, here, product = context.localizer, context.local, {"product": context.product}
    moment = localizer.dates.moment(here.date(), here.hour, here.minute, _NO_YEAR)
    return MailText(
        subject=localizer.gettext("Test mail from %(product)s") % product,
        heading=localizer.gettext("Mail works"),
        lead=localizer.gettext("%(product)s can send mail, and this one has reached you. There is nothing to do.")
        % product,
        props=TrialProps(localizer.gettext("Written on %(date)s.") % {"date": moment}),
    )


def _sample(_: datetime) -> None:
    return None


KIND = Kind(
    name="test",
    event=SendTestMail,
    who=Addresses(),
    what=NoContent(),
    period=Period.MESSAGE,
    expiry=timedelta(hours=4),
    words=words,
    compose=compose,
    sample=_sample,
    unsubscribe=None,
    package="taskbell_notifier.mail",
)
