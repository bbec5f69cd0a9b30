"""Whatever people call their tasks, their projects and themselves: a mail has our headers, our tags and our lines.

Other tests fuzz single header fields and parts, and try hostile titles one by one; here whole mails are made, in which
every word from outside is hostile at once, and compared with the same mail about harmless things.
"""

import re
from datetime import timedelta
from email.parser import BytesParser
from email.policy import default
from typing import Any

import hypothesis.strategies as st
import pytest

from taskbell.kinds import AssignedTasks, Kind, Recipient, Task
from taskbell_notifier.domain import found
from taskbell_notifier.mail import clean
from taskbell_notifier.mail.figures import read_report
from taskbell_notifier.mail.headers import parse_sender, valid_address
from taskbell_notifier.mail.links import Links
from taskbell_notifier.mail.mime import MailWriter
from taskbell_notifier.mail.render import Rendered, Renderer
from tests.chaos.support.fuzzing import fuzz
from tests.chaos.support.plan import Plan
from tests.support.kinds import KINDS, MAILINGS, REPORT, TEST, name
from tests.unit.notifier.mail import reading
from tests.unit.notifier.mail.samples import BERLIN, FRIDAY_EIGHT, HOSTILE_TITLES, LANGUAGES, REPORT_DATE

HEADERS = ["From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "X-Auto-Response-Suppress", "List-Id"]
UNSUBSCRIPTION = ["List-Unsubscribe", "List-Unsubscribe-Post"]
MIME = ["MIME-Version", "Content-Type"]
URL = "https://tasks.example.org/u/" + "A" * 60

PIECES = (
    *("<", ">", "</td>", "<script>", "</script>", "<!--", "-->", "<![CDATA[", "]]>", "&", "&lt;", "&#60;", "'", '"'),
    *("{{", "}}", "{%", "%}", "<!--%", "%-->", "{#", "%(name)s", "%s", "{0}", "\\", "`", "javascript:", "//x.example"),
    *(
        "\r\n",
        "\n.\r\n",
        "\r",
        "\x00",
        "\x0b",
        "\x85",
        "\u2028",
        "\u2029",
        "\r\nBcc: v@example.com\r\n\r\n",
        "=?utf-8?q?",
    ),
    *(
        "\u202e",
        "\u2066",
        "\u2069",
        "\u2068",
        "\u200f",
        "\u200d",
        "\ufeff",
        "\ud800",
        "שלום",
        "عنوان",
        "é",
        "漢字",
        "👩‍👩‍👧",
    ),
    *("word", " ", "  ", "--taskbell", "=3D", "=\r\n", "From ", "x" * 90, "@", ","),
)
words = (
    st.sampled_from(HOSTILE_TITLES) | st.text(max_size=60) | st.lists(st.sampled_from(PIECES), max_size=8).map("".join)
)


def harmless(text: str | None) -> str | None:
    """A word without malice, where the hostile one leaves anything to be shown."""
    return text and ("harmless" if clean.title(text) else "")


@st.composite
def tasks(draw: st.DrawFn) -> list[Task]:
    return [
        Task(
            id=draw(st.integers(1, 2**63 - 1)),
            title=draw(words),
            project=draw(words | st.none()),
            status=draw(st.sampled_from(["pending", "in_progress"])),
            priority=draw(words | st.sampled_from([None, "urgent"])),
            due_date=FRIDAY_EIGHT + timedelta(hours=draw(st.sampled_from([-2000, -30, -5, -1, 0, 1, 5, 20, 100]))),
            completed_at=None,
        )
        for _ in range(draw(st.integers(1, 4)))
    ]


@st.composite
def reports(draw: st.DrawFn) -> dict[str, Any]:
    """The body of a report, as the web app's tables gave it."""
    listed = [
        {name: draw(words) for name in ("title", "project", "status")} | {"id": 1, "due_date": "2026-10-02T10:00:00Z"}
        for _ in range(draw(st.integers(0, 3)))
    ]
    counted = st.dictionaries(words, st.integers(1, 10**6), max_size=3)
    projects = [{"project": draw(words), "open": 1, "overdue": 1} for _ in range(draw(st.integers(0, 3)))]
    known = {"open": 1, "overdue": 1, "created": 2, "completed": 3, "dead_letters": {"notifier.dead": 0}}
    named = {"by_status": draw(counted), "by_priority": draw(counted), "mails": {draw(words): draw(counted)}}
    return known | named | {"by_project": projects, "projects": len(projects), "oldest_overdue": listed}


class Press:
    """Makes mails of all kinds."""

    def __init__(self, unsubscribe_url: str | None) -> None:
        self.renderer = Renderer(KINDS, Links("https://tasks.example.org"))
        self.writer = MailWriter(parse_sender("Taskbell <bell@example.org>"))
        self.url = unsubscribe_url

    def mailing(self, kind: Kind, locale: str, name: str, tasks: list[Task]) -> Rendered | None:
        """None: with these tasks there is nothing to say."""
        assert isinstance(kind.what, AssignedTasks)
        content = found(kind.what, tasks, FRIDAY_EIGHT)
        if content is None:
            return None
        person = Recipient(7, name, "ana@example.org", BERLIN, locale)
        return self.renderer.render(kind, person, content, at=FRIDAY_EIGHT, now=FRIDAY_EIGHT, unsubscribe_url=self.url)

    def written(self, kind: Kind, rendered: Rendered, name: str) -> bytes:
        to = valid_address("ana@example.org", name)
        assert to is not None
        message_id = f"<{kind.name}.4711@example.org>"
        url = self.url if kind in MAILINGS else None
        return self.writer.write(kind, rendered, to=to, message_id=message_id, date=FRIDAY_EIGHT, unsubscribe_url=url)


@pytest.fixture(scope="module")
def press() -> Press:
    return Press(URL)


def check_bytes(kind: Kind, raw: bytes, rendered: Rendered) -> None:
    """On the wire: exactly our headers, one recipient, two parts, lines that end as they must and are short enough."""
    assert raw.isascii()
    assert raw.count(b"\r") == raw.count(b"\n") == raw.count(b"\r\n")
    lines = raw.split(b"\r\n")
    assert all(len(line) <= 78 or line.startswith(b"List-Unsubscribe: <") for line in lines), max(lines, key=len)
    message = BytesParser(policy=default).parsebytes(raw)
    assert not message.defects
    assert message.keys() == HEADERS + MIME + (UNSUBSCRIPTION if kind in MAILINGS else [])
    assert [to.addr_spec for to in message["To"].addresses] == ["ana@example.org"]
    assert message["Subject"] == rendered.subject
    text, html = message.iter_parts()
    assert (text.get_content_type(), html.get_content_type()) == ("text/plain", "text/html")
    assert [part.get_content().replace("\r\n", "\n") for part in (text, html)] == [rendered.text, rendered.html]


def check_words(rendered: Rendered, plain: Rendered) -> None:
    """To be read: our tags with our attributes and no others, and lines of text that no client breaks."""
    assert tags(rendered.html) == tags(plain.html)
    assert not re.search("[\n\u2028\u2029]", rendered.subject)
    for line in rendered.text.split("\n"):
        assert len(line) <= 78 or re.fullmatch(r"\s*https://\S+", line), line
    for part in (rendered.text, rendered.html, rendered.subject):
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]", part)


def tags(html: str) -> list[tuple[str, dict[str, str]]]:
    """Every element with all its attributes, which hold nothing from outside, in its order."""
    return [(element.tag, element.attributes) for element in reading.read(html).all()]


@pytest.mark.parametrize("kind", MAILINGS, ids=name)
def test_no_word_from_outside_changes_the_form_of_a_mailing(press: Press, plan: Plan, seed: int, kind: Kind) -> None:
    def attack(found: list[Task], name: str, locale: str) -> None:
        rendered = press.mailing(kind, locale, name, found)
        if rendered is None:
            return
        calm = [tame(task) for task in found]
        plain = press.mailing(kind, locale, harmless(name) or "", calm)
        assert plain is not None
        check_words(rendered, plain)
        check_bytes(kind, press.written(kind, rendered, name), rendered)

    fuzz(
        attack, plan, seed, quick=50, full=500, found=tasks(), name=words, locale=st.sampled_from(LANGUAGES)
    )  # fmt: skip


def tame(task: Task) -> Task:
    """That task with harmless words; a priority that we know stays what it is."""
    priority = task.priority if task.priority == "urgent" else harmless(task.priority)
    return Task(task.id, harmless(task.title) or "", harmless(task.project), task.status, priority, task.due_date, None)


@pytest.mark.parametrize("kind", [REPORT, TEST], ids=name)
def test_no_word_from_outside_changes_the_form_of_a_report_or_a_test_mail(
    press: Press, plan: Plan, seed: int, kind: Kind
) -> None:
    def made(body: dict[str, Any], name: str, locale: str) -> Rendered:
        person = Recipient(None, name, "ana@example.org", BERLIN, locale)
        content = None if kind is TEST else read_report(REPORT_DATE, FRIDAY_EIGHT, body)
        return press.renderer.render(kind, person, content, at=FRIDAY_EIGHT, now=FRIDAY_EIGHT)

    def attack(body: dict[str, Any], name: str, locale: str) -> None:
        rendered = made(body, name, locale)
        check_words(rendered, made(tamed(body), harmless(name) or "", locale))
        check_bytes(kind, press.written(kind, rendered, name), rendered)

    fuzz(
        attack, plan, seed, quick=50, full=500, body=reports(), name=words, locale=st.sampled_from(LANGUAGES)
    )  # fmt: skip


OURS = {"open", "overdue", "created", "completed", "dead_letters", "notifier.dead", "by_status", "by_priority", "mails"}
OURS |= {"by_project", "projects", "oldest_overdue", "id", "title", "project", "status", "due_date"}


def tamed(value: Any) -> Any:
    """A report with harmless words; of keys, each another one."""
    if isinstance(value, dict):
        named = {key: key if key in OURS else f"{harmless(key)}{place or ''}" for place, key in enumerate(value)}
        return {named[key]: item if key == "due_date" else tamed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [tamed(item) for item in value]
    return harmless(value) if isinstance(value, str) else value
