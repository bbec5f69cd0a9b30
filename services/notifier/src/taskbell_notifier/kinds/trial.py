"""The test mail, which proves that mail works. (Not test_mail.py: tools would take that for a test.)"""

from datetime import datetime, timedelta
from typing import NamedTuple

from taskbell.contracts import SendTestMail
from taskbell.kinds import Addresses, Gettext, Kind, KindWords, MailText, NoContent, Period
from taskbell_notifier.mail.context import WritingContext

_NO_YEAR = 0
"""As the year that goes without saying: every date is written with its own."""


class TrialProps(NamedTuple):
    """What the templates see."""

    sent: str


def words(_: Gettext) -> KindWords:
    """What it is called."""
    return KindWords(
        title=_("Test mails"),
        reason=_("You get this mail because a test mail to your address was asked for in %(product)s."),
    )


def compose(context: WritingContext, _: object) -> MailText:
    """That mails arrive."""
    voice, here, product = context.voice, context.local, {"product": context.product}
    moment = voice.dates.moment(here.date(), here.hour, here.minute, _NO_YEAR)
    return MailText(
        subject=voice.gettext("Test mail from %(product)s") % product,
        heading=voice.gettext("Mail works"),
        lead=voice.gettext("%(product)s can send mail, and this one has reached you. There is nothing to do.")
        % product,
        props=TrialProps(voice.gettext("Written on %(date)s.") % {"date": moment}),
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
