"""The table of all kinds of mail: our own, and those of installed packages."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache

from taskbell import extensions
from taskbell.contracts import CATALOGUE, Contract, MailKind, ReportBounce, SendBatch
from taskbell.errors import ExtensionError, TaskbellError
from taskbell.kinds import Kind
from taskbell.spelling import did_you_mean
from taskbell_notifier.kinds import overdue, reminder, report, trial, weekly

OWN = (reminder.KIND, overdue.KIND, weekly.KIND, report.KIND, trial.KIND)


class UnknownKind(TaskbellError, KeyError):
    """No kind of mail has that name or event; it may belong to a package that is not installed."""

    def __str__(self) -> str:
        return str(self.args[0])


class Kinds(Mapping[str, Kind]):
    """Kinds of mail by name. A look-up of a name or event that no kind has raises UnknownKind."""

    def __init__(self, kinds: Iterable[Kind]) -> None:
        self._by_name = {kind.name: kind for kind in kinds}
        self._by_event = {kind.event: kind for kind in self._by_name.values()}

    def __getitem__(self, name: str) -> Kind:
        """The kind of that name. Raises UnknownKind, with the names of all kinds."""
        kind = self._by_name.get(name)
        if kind is None:
            known = ", ".join(self._by_name)
            hint = did_you_mean(name, self._by_name) or "."
            msg = f"there is no kind of mail {name!r}{hint} There are {known}"
            raise UnknownKind(msg)
        return kind

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    def of_event(self, contract: type[Contract]) -> Kind:
        """The kind whose event is this contract. Raises UnknownKind."""
        kind = self._by_event.get(contract)
        if kind is None:
            msg = f"no kind of mail has the event {contract.__name__}"
            raise UnknownKind(msg)
        return kind

    @property
    def planned(self) -> tuple[Kind, ...]:
        """The kinds whose recipients the planner finds in the tables."""
        return tuple(kind for kind in self.values() if kind.is_planned)

    @property
    def instant(self) -> tuple[Kind, ...]:
        """The kinds whose event names the one user who gets the mail."""
        return tuple(kind for kind in self.values() if kind.is_instant)


@lru_cache(maxsize=1)
def installed_kinds() -> Kinds:
    """Our own kinds, and those of installed packages.

    Raises:
        ExtensionError: an installed package offers something that cannot be used, or one of ours is not complete.
    """
    if mistakes := list(mistakes_in(OWN)):
        raise ExtensionError("\n".join(mistakes))
    return Kinds((*OWN, *(kind for it in extensions.installed() for kind in it.extension.kinds)))


def mistakes_in(own: Sequence[Kind]) -> Iterator[str]:
    """What is missing, or said twice, of the kinds that come with Taskbell: each in a sentence that says where."""
    events = "taskbell/contracts/events.py"
    consumed = {it.contract: it for it in CATALOGUE.values() if it.consumer == "notifier"}
    for kind in own:
        if kind.event not in consumed:
            yield f"kind of mail {kind.name!r}: {kind.event.__name__} has no row with consumer notifier in {events}"
        if kind.name not in set(MailKind):
            yield f"kind of mail {kind.name!r} is not named in MailKind of {events}"
    for contract in set(consumed) - {kind.event for kind in own} - {SendBatch, ReportBounce}:
        key = consumed[contract].routing_key
        yield f"no kind in OWN of taskbell_notifier/kinds/table.py has {contract.__name__} ({key}) as its event"
    for code, count in Counter(kind.unsubscribe for kind in own if kind.unsubscribe is not None).items():
        if count > 1:
            names = " and ".join(kind.name for kind in own if kind.unsubscribe == code)
            yield f"kinds of mail {names} both have the unsubscribe code {code}"


def expires_at(kind: Kind, at: datetime, expiry: Mapping[str, timedelta]) -> datetime:
    """The moment from which a mail of that kind with T `at` is not sent any more.

    Args:
        expiry: by kind, how long after T its mails are sent; a kind that is missing has its own.
    """
    return at + expiry.get(kind.name, kind.expiry)
