"""What every mail has, whatever it says: language, greeting, preheader, one button, the zone, and why you got it."""

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple, Protocol

from taskbell.contracts import MailKind
from taskbell_notifier.domain import Recipient
from taskbell_notifier.mail import clean
from taskbell_notifier.mail.links import Links
from taskbell_notifier.mail.words import Voice

PREHEADER_AT_LEAST = 40
PREHEADER_AT_MOST = 90
LINE_LENGTH = 78


class House(NamedTuple):
    """What all mails of one installation share."""

    product: str
    links: Links


class Scene(NamedTuple):
    """One recipient at the moment of rendering."""

    house: House
    voice: Voice
    recipient: Recipient
    now: datetime
    local: datetime
    """`now` in the recipient's zone."""
    unsubscribe_url: str | None


class Button(NamedTuple):
    label: str
    url: str | None
    """None where the web app's address is not known: then there is no button."""


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


class Mail(Protocol):
    """The typed props of one kind of mail: the layout's, and its own beside them."""

    @property
    def frame(self) -> Frame: ...


def scene(house: House, voice: Voice, recipient: Recipient, now: datetime, unsubscribe_url: str | None = None) -> Scene:
    """Puts a recipient in place."""
    return Scene(house, voice, recipient, now, now.astimezone(recipient.zone), unsubscribe_url)


def frame(
    at: Scene,
    kind: MailKind,
    *,
    subject: str,
    heading: str,
    lead: str,
    teasers: Iterable[str],
    button: Button | None = None,
) -> Frame:
    """The props of the layout. Of the teasers as many as fit become the preheader; the reason fills it up."""
    voice = at.voice
    product = at.house.product
    reason = _reason(voice, kind, product)
    return Frame(
        lang=voice.tag,
        product=product,
        subject=subject,
        preheader=preheader(teasers, reason),
        greeting=_greeting(voice, at.recipient.name),
        heading=heading,
        underline="=" * min(len(heading), LINE_LENGTH),
        lead=lead,
        button_label=button.label if button else "",
        button_url=button.url if button else None,
        zone_note=voice.gettext("Times are in %(zone)s.") % {"zone": voice.dates.zone(at.local)},
        reason=reason,
        unsubscribe_url=at.unsubscribe_url,
        unsubscribe_label=unsubscribe_label(voice, kind),
        signature=voice.gettext("Sent by %(product)s") % {"product": product},
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


def _greeting(voice: Voice, name: str) -> str | None:
    shown = clean.title(name, clean.NAME_GRAPHEMES)
    return voice.gettext("Hello %(name)s,") % {"name": shown} if shown else None


def _reason(voice: Voice, kind: MailKind, product: str) -> str:
    _ = voice.gettext
    if kind == MailKind.REMINDER:
        return _("You get this mail because open tasks assigned to you are due within a day.")
    if kind == MailKind.OVERDUE:
        return _("You get this mail because open tasks assigned to you are past their due date.")
    if kind == MailKind.WEEKLY:
        return _("You get this mail once a week because tasks are assigned to you.")
    if kind == MailKind.REPORT:
        return _("You get this mail because your address is set to receive the daily report.")
    return _("You get this mail because a test mail to your address was asked for in %(product)s.") % {
        "product": product
    }


def unsubscribe_label(voice: Voice, kind: MailKind) -> str:
    """What the link that ends these mails is called; "" for mails that nobody subscribes to."""
    _ = voice.gettext
    if kind == MailKind.REMINDER:
        return _("Unsubscribe from reminders")
    if kind == MailKind.OVERDUE:
        return _("Unsubscribe from overdue alerts")
    if kind == MailKind.WEEKLY:
        return _("Unsubscribe from weekly summaries")
    return ""
