"""Makes the mail of a claimed row from the tables as they are now, or the reason why there is none."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from taskbell.kinds import Kind, Recipient, StoredReport
from taskbell.zones import resolve_zone
from taskbell_notifier.kinds.absent import ROW, Absent
from taskbell_notifier.kinds.table import Kinds
from taskbell_notifier.lifecycle import Change, Claimed, DeliveryState, ended, returned
from taskbell_notifier.mail.headers import Mailbox, valid_address
from taskbell_notifier.mail.mime import MailWriter
from taskbell_notifier.mail.render import Renderer
from taskbell_notifier.repository.contents import Person, report_date
from taskbell_notifier.smtp.envelope import OutgoingMail
from taskbell_notifier.unsubscribe.tokens import UnsubscribeLinks


@dataclass(frozen=True, slots=True)
class Draft:
    """A mail that is to be sent; it is rendered only when a session is about to be free."""

    row: Claimed
    kind: Kind
    recipient: Recipient
    to: Mailbox
    content: object
    """What the kind's `what` gave for the recipient."""

    @property
    def address(self) -> str:
        """In the ledger, and suppressed if the server refuses it for good."""
        return self.to.addr_spec


class Composer:
    """Decides if a row gets a mail, renders it, and serialises it."""

    def __init__(
        self,
        kinds: Kinds,
        absent: Absent,
        renderer: Renderer,
        writer: MailWriter,
        links: UnsubscribeLinks | None,
        zone: ZoneInfo,
    ) -> None:
        """Makes a composer; `zone` is for operators, and for users without a valid zone."""
        self._kinds = kinds
        self._absent = absent
        self._renderer = renderer
        self._writer = writer
        self._links = links
        self._zone = zone
        self._sender = writer.sender.addr_spec

    def decide(self, row: Claimed, person: Person, contents: Mapping[int, object]) -> Draft | Change:
        """A draft, or the change to a row that gets no mail: it ends, or waits while its kind is not installed here.

        Args:
            contents: the contents of mails, by delivery id.
        """
        if row.kind not in self._kinds:
            reason = f"kind {row.kind} is not installed"
            left = self._absent.grace_left(row.kind)
            return returned(row, reason, min(left, ROW)) if left else ended(row, DeliveryState.SKIPPED, reason)
        kind = self._kinds[row.kind]
        refusal = _unwanted(row, person)
        if refusal is not None:
            return ended(row, DeliveryState.SKIPPED, refusal)
        if row.id not in contents:
            return _without_content(row, kind)
        address = (person.email or "").strip()
        to = valid_address(address, person.name)
        if to is None:
            return ended(row, DeliveryState.FAILED, "no valid address", address=address or None)
        if person.suppressed is not None:
            reason = f"address suppressed: {person.suppressed}"
            return ended(row, DeliveryState.SUPPRESSED, reason, address=to.addr_spec)
        zone = resolve_zone(person.timezone) or self._zone
        recipient = Recipient(row.user_id, person.name, to.addr_spec, zone, person.locale)
        return Draft(row, kind, recipient, to, contents[row.id])

    def write(self, draft: Draft, now: datetime) -> OutgoingMail:
        """The mail as it goes out; `now` is the moment that words such as "today" are about."""
        row, kind = draft.row, draft.kind
        url = self._links.url(row.user_id, kind) if self._links else None
        rendered = self._renderer.render(kind, draft.recipient, draft.content, at=row.at, now=now, unsubscribe_url=url)
        message = self._writer.write(
            kind, rendered, to=draft.to, message_id=row.message_id, date=now, unsubscribe_url=url
        )
        return OutgoingMail(self._sender, draft.to.addr_spec, message, is_ready=True)


def _unwanted(row: Claimed, person: Person) -> str | None:
    if not person.exists:
        return "no such user any more"
    if row.user_id is not None and not person.is_active:
        return "inactive"
    if not person.wants:
        return f"opted out of {row.kind}"
    return None


def _without_content(row: Claimed, kind: Kind) -> Change:
    if isinstance(kind.what, StoredReport):
        return ended(row, DeliveryState.FAILED, f"no report of {report_date(row)} is stored")
    return ended(row, DeliveryState.SKIPPED, "nothing to say")
