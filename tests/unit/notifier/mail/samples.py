"""People, tasks and mails that the tests of this folder share."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from email.headerregistry import Address
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import default
from zoneinfo import ZoneInfo

from tests.support.kinds import OVERDUE, REMINDER, REPORT, TEST, WEEKLY

from taskbell.kinds import AssignedTasks, Found, Kind, Recipient, Task
from taskbell_notifier.domain import found
from taskbell_notifier.mail.figures import ReportFigures, read_report
from taskbell_notifier.mail.headers import valid_address
from taskbell_notifier.mail.mime import MailWriter
from taskbell_notifier.mail.render import Rendered, Renderer

BERLIN = ZoneInfo("Europe/Berlin")
FRIDAY_EIGHT = datetime(2026, 11, 20, 7, 0, tzinfo=UTC)
"""T: Friday, 20 November 2026, 08:00 in Berlin."""
UNSUBSCRIBE_URL = "https://taskbell.example.com/u/AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRob"
LANGUAGES = ("en", "de", "fr", "es")

HOSTILE_TITLES = (
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert('x')>",
    "{{ 7 * 7 }} {% raw %} <!--% endif %-->",
    "first\r\nBcc: victim@example.com\r\n\r\nsecond",
    "\u202eevil.exe\u202c \u2066hidden\u2069 \u200fmark",
    "x" * 10_000,
    "wörter " * 2_000,
    "👨‍👩‍👧‍👦" * 300,
    "🏴󠁧󠁢󠁥󠁮󠁧󠁿🇩🇪" * 100,
    "تحديث الموقع الإلكتروني للشركة قبل نهاية الأسبوع",
    "a" + "\u0301" * 5_000,
    ('"' + "\u0301" * 8) * 200,
    "\x00\x07\x1b[31m\x7f\x85",
    "=?utf-8?q?spoofed?=",
    "https://evil.example/" + "a" * 200,
    "From the top\n.\n..dots",
    "",
    " \t ",
    "\ud800 half a pair",
)


def a_task(number: int = 1, **changes: object) -> Task:
    """An open task, due at T, but for the changes."""
    fields: dict[str, object] = {
        "id": number,
        "title": f"Prepare the quarterly figures, part {number}",
        "project": "Website relaunch",
        "status": "pending",
        "priority": "high",
        "due_date": FRIDAY_EIGHT,
        "completed_at": None,
    }
    return Task(**{**fields, **changes})  # type: ignore[arg-type]


def due_in(hours: float, number: int = 1, **changes: object) -> Task:
    """An open task, due so many hours after T (before it where negative)."""
    return a_task(number, due_date=FRIDAY_EIGHT + timedelta(hours=hours), **changes)


def done_before(hours: float, number: int = 1, **changes: object) -> Task:
    """A task done so many hours before T."""
    return a_task(number, status="done", completed_at=FRIDAY_EIGHT - timedelta(hours=hours), **changes)


def ana(locale: str | None = "en", **changes: object) -> Recipient:
    """A person in Berlin."""
    fields: dict[str, object] = {"user_id": 7, "name": "Ana Müller", "address": "ana@example.com", "zone": BERLIN}
    return Recipient(**{**fields, "locale": locale, **changes})  # type: ignore[arg-type]


REPORT_BODY = {
    "open": 192,
    "by_status": {"pending": 131, "in_progress": 61, "done": 402, "on_hold": 2},
    "by_priority": {"urgent": 9, "low": 1234},
    "by_project": [
        {"project": "Website relaunch", "open": 40, "overdue": 7},
        {"project": None, "open": 3, "overdue": 0},
    ],
    "projects": 2,
    "overdue": 23,
    "created": 14,
    "completed": 9,
    "oldest_overdue": [
        {
            "id": 3,
            "title": "Renew the certificate",
            "project": "Website relaunch",
            "status": "pending",
            "priority": "urgent",
            "due_date": "2026-10-02T10:00:00Z",
        }
    ],
    "mails": {"reminder": {"sent": 311, "skipped": 4}, "overdue": {"failed": 2}},
    "dead_letters": {"notifier.dead": 0, "maintenance.dead": 3},
}
REPORT_DATE = date(2026, 11, 22)


def mailing(
    renderer: Renderer,
    kind: Kind,
    tasks: list[Task],
    recipient: Recipient | None = None,
    *,
    at: datetime = FRIDAY_EIGHT,
    now: datetime | None = None,
    unsubscribe_url: str | None = UNSUBSCRIBE_URL,
) -> Rendered:
    """What the notifier renders for somebody with these tasks."""
    return renderer.render(
        kind, recipient or ana(), content_of(kind, tasks, at), at=at, now=now or at, unsubscribe_url=unsubscribe_url
    )


def content_of(kind: Kind, tasks: list[Task], at: datetime = FRIDAY_EIGHT) -> Found:
    """What these tasks give to say."""
    assert isinstance(kind.what, AssignedTasks)
    content = found(kind.what, tasks, at)
    assert content is not None, "these tasks give nothing to say"
    return content


def a_test_mail(renderer: Renderer, recipient: Recipient, now: datetime = FRIDAY_EIGHT) -> Rendered:
    """The mail that proves that mail works."""
    return renderer.render(TEST, recipient, None, at=now, now=now)


def a_report(
    renderer: Renderer, recipient: Recipient, figures: ReportFigures, now: datetime = FRIDAY_EIGHT
) -> Rendered:
    """The daily report."""
    return renderer.render(REPORT, recipient, figures, at=now, now=now)


def of_kind(
    renderer: Renderer,
    kind: Kind,
    locale: str = "en",
    *,
    title: str | None = None,
    count: int = 4,
    unsubscribe_url: str | None = UNSUBSCRIBE_URL,
) -> Rendered:
    """A mail of any kind; `count` tasks, all of that title where one is given."""
    changes: dict[str, object] = {} if title is None else {"title": title, "project": title}
    if kind is TEST:
        return a_test_mail(renderer, ana(locale, name="Ana" if title is None else title))
    if kind is REPORT:
        body = dict(REPORT_BODY)
        if title is not None:
            body["by_status"] = {title: 1}
            body["by_priority"] = {title: 1}
            body["by_project"] = [{"project": title, "open": 1, "overdue": 1}] * 40
            body["mails"] = {title: {title: 2}}
            body["oldest_overdue"] = [
                {"id": 1, "title": title, "project": title, "due_date": "2026-10-02T10:00:00Z"}
            ] * 9
        figures = read_report(REPORT_DATE, FRIDAY_EIGHT, body)
        return a_report(renderer, ana(locale, user_id=None, name=""), figures)
    make: dict[Callable[[int], list[Task]]] = {
        REMINDER: lambda n: [due_in(0.5 + n % 20, n, **changes)],
        OVERDUE: lambda n: [due_in(-7.5 * n, n, **changes)],
        WEEKLY: lambda n: [
            due_in(7 * n, 3 * n, **changes),
            due_in(-30 * n, 3 * n + 1, **changes),
            done_before(n, 3 * n + 2, **changes),
        ],
    }
    tasks = [task for n in range(1, count + 1) for task in make[kind](n)]
    person = ana(locale) if title is None else ana(locale, name=title)
    return mailing(renderer, kind, tasks, person, unsubscribe_url=unsubscribe_url)


def written(writer: MailWriter, kind: Kind, rendered: Rendered, unsubscribe_url: str | None = None) -> bytes:
    """The bytes of that mail to Ana."""
    return writer.write(
        kind,
        rendered,
        to=address("ana@example.com", "Ana Müller"),
        message_id=f"<{kind.name}.4711@{writer.sender.domain}>",
        date=FRIDAY_EIGHT,
        unsubscribe_url=unsubscribe_url,
    )


def address(text: str, name: str = "") -> Address:
    """That address, which is a valid one."""
    valid = valid_address(text, name)
    assert valid is not None
    return valid


def parsed(raw: bytes) -> EmailMessage:
    """What the standard library's parser reads."""
    message = BytesParser(policy=default).parsebytes(raw)
    assert isinstance(message, EmailMessage)
    assert not message.defects
    return message


def bodies(raw: bytes) -> tuple[str, str]:
    """Text part and HTML part with plain newlines."""
    text, html = parsed(raw).iter_parts()
    return tuple(part.get_content().replace("\r\n", "\n") for part in (text, html))  # type: ignore[return-value]
