"""What installed packages offer is loaded once, checked, and refused with both names if two claim one."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.packages import TIMESHEETS, Packages, packages_in

from taskbell import catalogue, extensions
from taskbell.contracts import CATALOGUE, WeeklyDue
from taskbell.errors import ExtensionError

HEAD = """
from datetime import timedelta
from taskbell.extend import *
from taskbell.contracts import MailingDue, UserEvent

class One(Contract):
    pass

class Two(Contract):
    pass

class OneDue(MailingDue):
    pass

class Happened(UserEvent):
    pass

async def handle(transaction, messages):
    pass

def message(key, kind="event", contract=One, consumer=None, by_anyone=True, published_by=()):
    return Message(key, kind, contract, "anyone", "a test", consumer, by_anyone, published_by)

def words(_):
    return KindWords("Things", "Because.")

def kind(
    name, event=OneDue, who=(Due(None, NOW),), what=AssignedTasks(), period=Period.DAY, unsubscribe=None, words=words,
    expiry=timedelta(hours=1),
):
    return Kind(name, event, who, what, period, expiry, words, None, None, unsubscribe, "a_package")
"""


@pytest.fixture
def packages(tmp_path: Path) -> Iterator[Packages]:
    with packages_in(tmp_path / "site") as packages:
        yield packages


def mistakes(packages: Packages, source: str, *, head: str = HEAD) -> list[str]:
    """What is said of a package of that source."""
    packages.install("acme-things", head + source)
    with pytest.raises(ExtensionError) as caught:
        extensions.installed()
    return str(caught.value).splitlines()


def test_without_packages_the_catalogue_is_ours(packages: Packages) -> None:
    assert extensions.installed() == ()
    assert catalogue.catalogue() == CATALOGUE


def test_a_packages_messages_stand_in_the_catalogue_beside_ours(packages: Packages) -> None:
    packages.install("acme-timesheets", TIMESHEETS, version="2.3")
    (found,) = extensions.installed()
    assert (found.package, found.version, found.services) == ("acme-timesheets", "2.3", ("timesheets",))
    assert list(catalogue.catalogue()) == [*CATALOGUE, "timesheets.approve", "month.closed"]
    assert catalogue.package_of("month.closed") == "acme-timesheets"
    assert catalogue.package_of("weekly.due") == "taskbell"
    approve = catalogue.catalogue()["timesheets.approve"]
    assert catalogue.row_of(approve.contract) is approve
    assert (approve.queue, approve.exchange, approve.has_outcome) == ("timesheets.approve", "taskbell.commands", True)


def test_they_are_loaded_once(packages: Packages) -> None:
    packages.install("acme-timesheets", TIMESHEETS)
    assert extensions.installed() is extensions.installed()


def test_a_package_that_cannot_be_loaded_keeps_nobody_from_messages_of_ours(packages: Packages) -> None:
    packages.install("acme-things", "1 / 0")
    assert catalogue.message_of(WeeklyDue()).routing_key == "weekly.due"


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("1 / 0", "the extension acme_things of package acme-things cannot be loaded: ZeroDivisionError: division by"),
        ("", "the extension acme_things of package acme-things cannot be loaded: AttributeError: module"),
        ("extension = 7", "acme_things:extension of package acme-things is not a taskbell.extend.Extension but a int"),
    ],
)
def test_what_cannot_be_loaded_is_named(packages: Packages, source: str, sentence: str) -> None:
    (said,) = mistakes(packages, source, head="")
    assert said.startswith(sentence)


@pytest.mark.parametrize(
    ("offered", "sentence"),
    [
        ('messages=(message("closed"),)', "'closed' is not a routing key: two or more words of small letters"),
        ('messages=(message("a.b" * 100),)', "' is not a routing key"),
        ('messages=(message("a.b); DROP ROLE x--"),)', "'a.b); DROP ROLE x--' is not a routing key"),
        ('messages=(message("a.b", consumer="Sheets"),)', "message a.b: 'Sheets' cannot be a consumer"),
        ('messages=(message("a.b", consumer="console"),)', "message a.b: 'console' cannot be a consumer"),
        ('messages=(message("a.b", consumer="amq"),)', "message a.b: 'amq' cannot be a consumer"),
        ('messages=(message("a.b", consumer="reply"),)', "message a.b: 'reply' cannot be a consumer"),
        (
            'messages=(message("a.b", "command", consumer="sheets"),)',
            "command a.b: the routing key of a command begins with the name of its consumer",
        ),
        (
            'messages=(message("a.b", published_by=("app",)),)',
            "message a.b: 'app' cannot publish it; published_by names notifier or maintenance",
        ),
        (
            'messages=(message("a.b", consumer="sheets", published_by=("other",)),)',
            "message a.b: 'other' cannot publish it; published_by names notifier, maintenance or sheets",
        ),
        (
            'messages=(message("maintenance.purge", "command", consumer="maintenance"),)',
            "message maintenance.purge has consumer maintenance but no handler",
        ),
        (
            'messages=(message("a.due", consumer="notifier"),)',
            "message a.due has consumer notifier but no kind of mail whose event it is",
        ),
        ("handlers=(Handler(One, handle),)", "the handler of One needs a message of that contract with consumer maint"),
        (
            'messages=(message("a.b", consumer="maintenance"),), handlers=(Handler(One, handle, batch=0),)',
            "the handler of One: batch is 1 to 1000, not 0",
        ),
        ('listens=(Listen("notifier", "weekly.due"),)', "'notifier' cannot listen: give the package's own service a"),
        ('listens=(Listen("sheets", "weekly.do"),)', "sheets listens to 'weekly.do', which is not a message"),
        (
            'listens=(Listen("sheets", "notifier.send_test_mail"),)',
            "sheets listens to notifier.send_test_mail, which is a command: it has one consumer",
        ),
        (
            'grants=(Grant("app", "app.teams", ("SELECT",)),)',
            "'app' cannot be granted anything; a grant names scheduler, notifier, maintenance or operator",
        ),
        ('grants=(Grant("sheets", "app.teams", ("SELECT",)),)', "'sheets' cannot be granted anything; a grant names"),
        ('grants=(Grant("notifier", "teams", ("SELECT",)),)', "'teams' is not a table: write app.NAME, or SCHEMA.NAME"),
        (
            'grants=(Grant("notifier", "app.teams; DROP TABLE x", ("SELECT",)),)',
            "'app.teams; DROP TABLE x' is not a table",
        ),
        (
            'grants=(Grant("notifier", "taskbell.outbox", ("SELECT",)),)',
            "a package cannot be granted anything on taskbell.outbox",
        ),
        (
            'grants=(Grant("notifier", "pg_catalog.pg_authid", ("SELECT",)),)',
            "cannot be granted anything on pg_catalog",
        ),
        ('grants=(Grant("notifier", "pg_toast.x", ("SELECT",)),)', "cannot be granted anything on pg_toast.x"),
        ('grants=(Grant("notifier", "app.teams", ()),)', "the grant on app.teams has no privileges"),
        ('grants=(Grant("notifier", "app.teams", ("ALL",)),)', "'ALL' is not a privilege: SELECT, INSERT, UPDATE or"),
        ('grants=(Grant("notifier", "app.teams", ("DELETE (id)",)),)', "'DELETE (id)' is not a privilege"),
        ('grants=(Grant("notifier", "app.teams", ("SELECT (id) ON x",)),)', "'SELECT (id) ON x' is not a privilege"),
        ('grants=(Grant("notifier", "app.teams", ("SELECT\\n",)),)', "is not a privilege"),
        ('kinds=(kind("Digest"),)', "kind of mail 'Digest': a name is small letters"),
        (
            'kinds=(kind("digest"),)',
            "kind of mail 'digest': its event OneDue needs a message of that contract with con",
        ),
        ('kinds=(kind("digest", unsubscribe=7),)', "kind of mail 'digest': its unsubscribe code is its name, or None"),
        (
            'kinds=(kind("digest", expiry=timedelta(0)),)',
            "kind of mail 'digest': its expiry is 0:00:00, so no mail of it would be sent",
        ),
        ('kinds=(kind("digest", who=()),)', "kind of mail 'digest': it has no condition, so nobody would get it"),
        (
            'kinds=(kind("digest", who=Statement("SELECT id FROM {app}.users WHERE id > :cursor AND team = :team")),)',
            "kind of mail 'digest': its `who` uses :team, but may use :at, :cursor, :event or :last; a colon that is",
        ),
        (
            'kinds=(kind("digest", what=Statement("SELECT unnest(:users) AS user_id, :keys::text[]")),)',
            "kind of mail 'digest': its `what` uses :keys, but may use :at, :event or :users",
        ),
        (
            'kinds=(kind("digest", Happened, NamedUser(), Statement("SELECT :user"), Period.KEY),)',
            "kind of mail 'digest': its `what` uses :user, but may use :events, :keys or :users",
        ),
        (
            'kinds=(kind("digest", words=lambda _: 1 / 0),)',
            "its words cannot be had: ZeroDivisionError: division by ze",
        ),
        ('kinds=(kind("digest", words=lambda _: "Digest"),)', "its words are not KindWords but a str"),
        (
            'kinds=(kind("digest", unsubscribe="digest"),)',
            "kind of mail 'digest': one can unsubscribe from it, so its words need unsubscribe and unsubscribed",
        ),
        ('kinds=(kind("digest", event=One),)', "kind of mail 'digest': a planned kind has a MailingDue as its event"),
        (
            'kinds=(kind("assigned", event=Happened, who=NamedUser()),)',
            "kind of mail 'assigned': a kind for the named user has a UserEvent as its event, and the period KEY",
        ),
    ],
)
def test_what_is_wrong_is_named_with_the_package(packages: Packages, offered: str, sentence: str) -> None:
    said = mistakes(packages, f"\nextension = Extension({offered})")
    assert any(line.startswith("package acme-things: ") and sentence in line for line in said), said


@pytest.mark.parametrize(
    ("offered", "claim"),
    [
        ('messages=(message("weekly.due"),)', "message weekly.due"),
        (
            'messages=(message("maintenance.update.task_status", consumer="maintenance"),)',
            "queue maintenance.update_ta",
        ),
        ('messages=(message("notifier.dead", consumer="notifier"),)', "queue notifier.dead"),
        ('kinds=(kind("reminder"),)', "kind of mail reminder"),
    ],
)
def test_nobody_takes_a_name_of_ours(packages: Packages, offered: str, claim: str) -> None:
    said = mistakes(packages, f"\nextension = Extension({offered})")
    assert any(f"packages taskbell and acme-things both claim the {claim}" in line for line in said), said


@pytest.mark.parametrize(
    ("offered", "claim"),
    [
        ('messages=(message("a.b"),)', "message a.b"),
        ('messages=(message(f"{letter}.b", consumer="sheets"),)', "service sheets"),
        ('listens=(Listen("sheets", "task.status_changed"),)', "service sheets"),
        ('kinds=(kind("digest"),)', "kind of mail digest"),
    ],
)
def test_two_packages_that_claim_one_name_are_both_named(packages: Packages, offered: str, claim: str) -> None:
    for letter in "xy":
        packages.install(f"acme-{letter}", f"{HEAD}\nletter = {letter!r}\nextension = Extension({offered})")
    with pytest.raises(ExtensionError) as caught:
        extensions.installed()
    assert f"packages acme-x and acme-y both claim the {claim}: remove one of them" in str(caught.value).splitlines()


@pytest.mark.parametrize(
    ("offered", "claim"),
    [
        ('messages=(message("a.b"), message("a.b", contract=Two))', "message a.b 2 times"),
        ('messages=(message("a.b"), message("a.c"))', "contract acme_things.One 2 times"),
        (
            'messages=(message("task.status_changed.by", consumer="sheets"),), '
            'listens=(Listen("sheets", "task.status_changed"), Listen("sheets", "task.status_changed"))',
            "queue sheets.task_status_changed 2 times",
        ),
        ('messages=(message("sheets.dead", "command", consumer="sheets"),)', "queue sheets.dead 2 times"),
    ],
)
def test_a_package_does_not_claim_a_name_twice(packages: Packages, offered: str, claim: str) -> None:
    assert f"package acme-things claims the {claim}" in mistakes(packages, f"\nextension = Extension({offered})")


def test_a_package_has_one_extension(packages: Packages) -> None:
    twice = {"one": "acme_things:extension", "two": "acme_things:extension"}
    packages.install("acme-things", f"{HEAD}\nextension = Extension()", groups={"taskbell.extensions": twice})
    with pytest.raises(ExtensionError, match=r"^package acme-things offers 2 extensions: put them into one$"):
        extensions.installed()


def test_a_package_may_listen_to_another_packages_event(packages: Packages) -> None:
    packages.install("acme-timesheets", TIMESHEETS)
    packages.install("acme-payroll", f'{HEAD}\nextension = Extension(listens=(Listen("payroll", "month.closed"),))')
    assert [it.package for it in extensions.installed()] == ["acme-payroll", "acme-timesheets"]


def test_an_app_without_the_extra_publishes_a_packages_messages(packages: Packages) -> None:
    packages.install("acme-timesheets", TIMESHEETS)
    code = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"sqlalchemy", "asyncpg", "faststream", "typer", "pydantic_settings", "structlog"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocker())
from acme_timesheets import Approve
from taskbell.client.messages import message_for
print(message_for(Approve(entry_id=1), message_id="m", correlation_id=None, traceparent=None).routing_key)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, timeout=60, check=False, env={"PYTHONPATH": packages.path},
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("timesheets.approve\n", "")
