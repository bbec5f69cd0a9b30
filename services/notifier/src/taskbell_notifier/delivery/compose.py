"""From a claimed row and what the tables say now to the mail that goes out, or to the reason why none does."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from email.headerregistry import Address
from zoneinfo import ZoneInfo

from taskbell.contracts import MailKind
from taskbell.zones import resolve_zone
from taskbell_notifier.domain import MAILINGS, Recipient, Selection
from taskbell_notifier.lifecycle import Change, Claimed, DeliveryState, ended
from taskbell_notifier.mail.headers import valid_address
from taskbell_notifier.mail.mime import MailWriter
from taskbell_notifier.mail.render import Renderer
from taskbell_notifier.mail.report import ReportFigures
from taskbell_notifier.repository.contents import Person
from taskbell_notifier.smtp.envelope import OutgoingMail
from taskbell_notifier.unsubscribe.tokens import UnsubscribeLinks


@dataclass(frozen=True, slots=True)
class Contents:
    """What the mails of a batch have to say: by user id to people, by date to operators."""

    selections: Mapping[tuple[MailKind, datetime, int], Selection]
    reports: Mapping[date, ReportFigures]


@dataclass(frozen=True, slots=True)
class Letter:
    """A mail that is to be sent; its words are written when its turn comes."""

    row: Claimed
    recipient: Recipient
    to: Address
    address: str
    """As the tables have it: what a suppression is stored under."""
    content: Selection | ReportFigures | None
    """None: a test mail."""


class Letters:
    """Decides, renders and serialises."""

    def __init__(self, renderer: Renderer, writer: MailWriter, links: UnsubscribeLinks | None, zone: ZoneInfo) -> None:
        """Makes them; `zone` is for people who have none that we know, and for operators."""
        self._renderer = renderer
        self._writer = writer
        self._links = links
        self._zone = zone
        self._sender = writer.sender.addr_spec

    def decide(self, row: Claimed, person: Person, contents: Contents) -> Letter | Change:
        """A letter, or why this person gets none."""
        refusal = _unwanted(row, person)
        if refusal is not None:
            return ended(row, DeliveryState.SKIPPED, refusal)
        content: Selection | ReportFigures | None = None
        if row.kind in MAILINGS and row.user_id is not None:
            content = contents.selections.get((row.kind, row.at, row.user_id))
            if content is None:
                return ended(row, DeliveryState.SKIPPED, "nothing to say")
        elif row.kind is MailKind.REPORT:
            content = contents.reports.get(report_date(row))
            if content is None:
                return ended(row, DeliveryState.FAILED, f"no report of {report_date(row)} is stored")
        address = (person.email or "").strip()
        to = valid_address(address, person.name)
        if to is None:
            return ended(row, DeliveryState.FAILED, "no valid address", address=address or None)
        if person.suppressed is not None:
            return ended(row, DeliveryState.SUPPRESSED, f"address suppressed: {person.suppressed}", address=address)
        zone = resolve_zone(person.timezone) or self._zone
        recipient = Recipient(row.user_id, person.name, to.addr_spec, zone, person.locale)
        return Letter(row, recipient, to, address, content)

    def write(self, letter: Letter, now: datetime) -> OutgoingMail:
        """The mail as it goes out; words about now are of that moment."""
        row, content = letter.row, letter.content
        url = self._links.url(row.user_id, row.kind) if self._links else None
        if content is None:
            rendered = self._renderer.test(letter.recipient, now=now)
        elif isinstance(content, ReportFigures):
            rendered = self._renderer.report(letter.recipient, content, now=now)
        else:
            rendered = self._renderer.mailing(
                row.kind, letter.recipient, content, occurrence=row.at, now=now, unsubscribe_url=url
            )
        message = self._writer.write(
            row.kind, rendered, to=letter.to, message_id=row.message_id, date=now, unsubscribe_url=url
        )
        return OutgoingMail(self._sender, letter.to.addr_spec, message, is_ready=True)


def report_date(row: Claimed) -> date:
    """The date of the report that a row is about."""
    return date.fromisoformat(row.props["date"])


def _unwanted(row: Claimed, person: Person) -> str | None:
    if not person.exists:
        return "no such user any more"
    if row.user_id is not None and not person.is_active:
        return "inactive"
    if not person.wants:
        return f"opted out of {row.kind.value}"
    return None
