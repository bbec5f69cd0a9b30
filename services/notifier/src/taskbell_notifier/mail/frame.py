"""What every mail has: language, greeting, preheader, one button, the zone, and why the recipient gets it."""

from collections.abc import Iterable
from typing import NamedTuple

from taskbell.kinds import KindWords, MailText
from taskbell_notifier.mail import clean
from taskbell_notifier.mail.context import WritingContext
from taskbell_notifier.mail.words import Localizer

PREHEADER_AT_LEAST = 40
PREHEADER_AT_MOST = 90
LINE_LENGTH = 78


class Frame(NamedTuple):
    """The props of the layout."""

    lang: str
    product: str
    subject: str
    preheader: str
    greeting: str | None
    heading: str
    underline: str
    lead: str
    button_label: str
    button_url: str | None
    zone_note: str
    reason: str
    unsubscribe_url: str | None
    unsubscribe_label: str
    signature: str


def frame(context: WritingContext, words: KindWords, text: MailText) -> Frame:
    """The layout's props. The preheader is made of as many teasers as fit, and of the reason if there is room."""
    localizer, product, button = context.localizer, context.product, text.button
    return Frame(
        lang=localizer.tag,
        product=product,
        subject=text.subject,
        preheader=preheader(text.teasers, words.reason),
        greeting=_greeting(localizer, context.recipient.name),
        heading=text.heading,
        underline="=" * min(len(text.heading), LINE_LENGTH),
        lead=text.lead,
        button_label=button.label if button else "",
        button_url=button.url if button else None,
        zone_note=localizer.gettext("Times are in %(zone)s.") % {"zone": localizer.dates.zone(context.local)},
        reason=words.reason,
        unsubscribe_url=context.unsubscribe_url,
        unsubscribe_label=words.unsubscribe,
        signature=localizer.gettext("Sent by %(product)s") % {"product": product},
    )


def preheader(teasers: Iterable[str], reason: str) -> str:
    """The line that an inbox shows beside the subject: 40 to 90 characters."""
    line = ""
    for part in filter(None, (*teasers, reason)):
        longer = f"{line} · {part}" if line else part
        if len(line) >= PREHEADER_AT_LEAST and len(longer) > PREHEADER_AT_MOST:
            break
        line = longer
    return clean.cut_characters(line, PREHEADER_AT_MOST)


def _greeting(localizer: Localizer, name: str) -> str | None:
    shown = clean.title(name, clean.NAME_GRAPHEMES)
    return localizer.gettext("Hello %(name)s,") % {"name": shown} if shown else None
