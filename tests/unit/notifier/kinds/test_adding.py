"""A mailing is added inside by five files; each that is left out is told by name when the notifier starts."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from taskbell_notifier.kinds.table import OWN, mistakes_in

KINDS = "taskbell_notifier/kinds"
TEMPLATES = "taskbell_notifier/mail/templates"
EVENTS = "taskbell/contracts/events.py"

Change = Callable[[Path], None]


def edited(path: str, *changes: tuple[str, str]) -> Change:
    def change(root: Path) -> None:
        source = (root / path).read_text()
        for old, new in changes:
            assert old in source, f"{path} has no {old!r}"
            source = source.replace(old, new, 1)
        (root / path).write_text(source)

    return change


def copied(old: str, new: str, *changes: tuple[str, str]) -> Change:
    def change(root: Path) -> None:
        shutil.copy(root / old, root / new)
        edited(new, *changes)(root)

    return change


ROW = """_event("weekly.due", WeeklyDue, _ANYONE, "it is time for the weekly summary", "notifier"),"""
CLASS = "class UserEvent(Contract):"
FILES: dict[str, Change] = {
    f"{KINDS}/stand_up.py": copied(
        f"{KINDS}/overdue.py",
        f"{KINDS}/stand_up.py",
        ("import OverdueDue", "import events"),
        ("event=OverdueDue", "event=events.StandUpDue"),
        ('name="overdue"', 'name="stand_up"'),
        ("unsubscribe=2", "unsubscribe=4"),
    ),
    f"{KINDS}/table.py": edited(
        f"{KINDS}/table.py",
        ("import overdue,", "import stand_up, overdue,"),
        ("OWN = (", "OWN = (stand_up.KIND, "),
    ),
    EVENTS: edited(
        EVENTS,
        (CLASS, f"class StandUpDue(MailingDue):\n    pass\n\n\n{CLASS}"),
        (ROW, f'{ROW}\n_event("stand_up.due", StandUpDue, _ANYONE, "stand up", "notifier"),'),
        ('    TEST = "test"', '    TEST = "test"\n    STAND_UP = "stand_up"'),
    ),
    f"{TEMPLATES}/stand_up.html.j2": copied(f"{TEMPLATES}/overdue.html.j2", f"{TEMPLATES}/stand_up.html.j2"),
    f"{TEMPLATES}/stand_up.txt.j2": copied(f"{TEMPLATES}/overdue.txt.j2", f"{TEMPLATES}/stand_up.txt.j2"),
}

START = """
import sys
from taskbell.errors import SettingsError
from taskbell.service import Process
from taskbell.settings import load
from taskbell_notifier.app import service
from taskbell_notifier.kinds.table import installed_kinds
try:
    service.build(load(service.settings), Process())
except SettingsError as error:
    sys.exit(str(error))
print(*installed_kinds())
"""
SETTINGS = {
    "DATABASE_URL": "postgresql://nobody@127.0.0.1:9/none",
    "BROKER_URL": "amqp://127.0.0.1:9/",
    "MAIL_DEFAULT_SENDER": "bell@example.org",
}


@dataclass(frozen=True)
class Copy:
    """The library and the notifier, copied, so that they can be changed."""

    root: Path

    @classmethod
    def make(cls, root: Path) -> "Copy":
        for package in ("taskbell", "taskbell_notifier"):
            spec = find_spec(package)
            assert spec is not None
            assert spec.origin is not None
            shutil.copytree(Path(spec.origin).parent, root / package, ignore=shutil.ignore_patterns("__pycache__"))
        return cls(root)

    def start(self) -> tuple[str, str]:
        """Constructs the notifier; its kinds, or what it says against it."""
        done = subprocess.run(
            [sys.executable, "-c", START],
            env=SETTINGS | {"PYTHONPATH": os.pathsep.join([str(self.root), *filter(None, sys.path)])},
            cwd=self.root,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        return done.stdout.strip(), done.stderr.strip()


def test_five_files_make_a_mailing(tmp_path: Path) -> None:
    copy = Copy.make(tmp_path)
    for change in FILES.values():
        change(tmp_path)
    assert copy.start() == ("stand_up reminder overdue weekly report test", "")


@pytest.mark.parametrize(
    ("left_out", "said"),
    [
        (f"{KINDS}/stand_up.py", "cannot import name 'stand_up' from 'taskbell_notifier.kinds'"),
        (
            f"{KINDS}/table.py",
            "no kind in OWN of taskbell_notifier/kinds/table.py has StandUpDue (stand_up.due) as its",
        ),
        (EVENTS, "module 'taskbell.contracts.events' has no attribute 'StandUpDue'"),
        (f"{TEMPLATES}/stand_up.html.j2", "the template templates/stand_up.html.j2 is missing from taskbell_notifier."),
        (f"{TEMPLATES}/stand_up.txt.j2", "the template templates/stand_up.txt.j2 is missing from taskbell_notifier."),
    ],
)
def test_a_file_that_is_left_out_is_told_by_name(tmp_path: Path, left_out: str, said: str) -> None:
    copy = Copy.make(tmp_path)
    for path, change in FILES.items():
        if path != left_out:
            change(tmp_path)
    built, told = copy.start()
    assert built == ""
    assert said in told


def test_the_kinds_that_come_with_taskbell_are_complete() -> None:
    assert list(mistakes_in(OWN)) == []


def test_what_a_kind_of_ours_lacks_is_told_with_its_name() -> None:
    reminder, overdue, *_ = OWN
    twin = replace(reminder, name="twin", unsubscribe=overdue.unsubscribe)
    assert list(mistakes_in([*OWN, twin])) == [
        "kind of mail 'twin' is not named in MailKind of taskbell/contracts/events.py",
        "kinds of mail overdue and twin both have the unsubscribe code 2",
    ]
    assert list(mistakes_in(OWN[1:])) == [
        "no kind in OWN of taskbell_notifier/kinds/table.py has ReminderDue (reminder.due) as its event"
    ]
    orphan = replace(reminder, event=type(reminder.event))
    assert any(
        "has no row with consumer notifier in taskbell/contracts/events.py" in it for it in mistakes_in([orphan])
    )
