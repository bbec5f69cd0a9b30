"""A private stack, for real: started, used, crashed, stopped. Its folder has a blank in its name."""

import contextlib
import imaplib
import os
import shutil
import signal
import smtplib
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import aiormq
import asyncpg
import pytest
from tests.support.management import Management

from taskbell_devstack import inbox
from taskbell_devstack.errors import NotReady
from taskbell_devstack.ports import answers, is_free
from taskbell_devstack.postgresql import OUTSIDE, server_account
from taskbell_devstack.processes import as_account, is_running, record_of
from taskbell_devstack.stack import Stack
from taskbell_devstack.state import StackState
from taskbell_devstack.status import StackStatus
from taskbell_devstack.waiting import wait_until


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder that PostgreSQL's user can reach, unlike pytest's own ones."""
    path = Path(tempfile.mkdtemp(prefix="taskbell stack "))
    path.chmod(0o755)
    yield path
    Stack(path / "all").down(at_once=True, remove_data=True)
    Stack(path / "one").down(at_once=True, remove_data=True)
    shutil.rmtree(path)


@pytest.fixture
def stack(folder: Path) -> Stack:
    """All three servers, running; the same ones for every test."""
    stack = Stack(folder / "all")
    stack.up()
    return stack


@pytest.fixture
def database(folder: Path) -> Iterator[Stack]:
    """PostgreSQL alone, which is quick to start, with no data."""
    stack = Stack(folder / "one", servers=["postgresql"])
    yield stack
    stack.down(at_once=True, remove_data=True)


def status(stack: Stack) -> dict[str, object]:
    return StackStatus.of(stack).model_dump()


async def query(url: object, statement: str) -> object:
    connection = await asyncpg.connect(str(url))
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


async def declare(url: object, queue: str, *, passive: bool = False) -> None:
    connection = await aiormq.connect(str(url))
    try:
        channel = await connection.channel()
        await channel.queue_declare(queue, durable=True, passive=passive)
    finally:
        await connection.close()


async def test_the_status_leads_to_a_working_database(stack: Stack) -> None:
    url = str(status(stack)["database_url"])
    assert await query(url, "SHOW fsync") == "on"
    assert await query(url, "SHOW max_connections") == "200"
    with pytest.raises(asyncpg.InvalidPasswordError):
        await query(url.replace("@", "x@"), "SELECT 1")


async def test_the_status_leads_to_a_working_broker_and_its_management(stack: Stack) -> None:
    now = StackStatus.of(stack)
    assert now.broker_url is not None
    assert now.broker_management_url is not None
    management = Management(now.broker_management_url, now.broker_url, "/")
    connection = await aiormq.connect(now.broker_url)
    channel = await connection.channel()
    await channel.queue_declare("kept", durable=True, arguments={"x-queue-type": "quorum"})
    assert await management.publish("", "kept", "a message")
    (message,) = await management.take("kept")
    assert message.body == b"a message"
    flags = {it["name"]: it["state"] for it in await management.call("GET", "/feature-flags")}
    assert flags.get("stream_queue", "enabled") == "enabled"
    await connection.close()
    await management.close()


def test_the_inbox_takes_mail_for_anybody_and_shows_it_in_one_place(stack: Stack) -> None:
    now = StackStatus.of(stack)
    assert now.mail_server is not None
    assert now.mail_port is not None
    assert now.imap_port is not None
    with smtplib.SMTP(now.mail_server, now.mail_port) as client:
        for recipient in ("a@example.org", "b@example.com"):
            client.sendmail("taskbell@example.org", recipient, f"To: {recipient}\r\n\r\nhello")

    with imaplib.IMAP4(now.mail_server, now.imap_port) as reader:
        reader.login(inbox.USER, inbox.PASSWORD)
        _, (count,) = reader.select("INBOX")
    assert count == b"2"


def test_starting_again_starts_nothing_anew(stack: Stack) -> None:
    before = stack.state
    said: list[str] = []
    assert Stack(stack.directory, say=said.append).up() == before
    assert said == []


def test_every_server_listens_on_the_loopback_address_only(stack: Stack) -> None:
    addresses = {address for address, port in listening() if port in stack.state.taken_ports()}
    assert addresses <= {"127.0.0.1", "::1"}
    assert {port for _, port in listening()} >= stack.state.taken_ports()


async def test_a_server_that_was_killed_comes_back_with_its_data(stack: Stack) -> None:
    before = stack.state
    await query(status(stack)["database_url"], "CREATE TABLE kept (id int)")
    for name in ("postgresql", "epmd", "inbox"):
        stack.kill(name)
        assert not stack.runs(name)

    after = stack.up()

    assert await query(status(stack)["database_url"], "SELECT count(*) FROM kept") == 0
    assert after.taken_ports() == before.taken_ports()
    assert after.processes["rabbitmq"] == before.processes["rabbitmq"]


async def test_a_stopped_broker_starts_again_with_its_queues_on_its_ports(stack: Stack) -> None:
    before = status(stack)
    await declare(before["broker_url"], "survivor")
    stack.stop("rabbitmq")  # killed, it might not have written down yet what is so new
    assert status(stack)["broker_url"] is None

    stack.start("rabbitmq")

    assert status(stack) == before
    await declare(before["broker_url"], "survivor", passive=True)


def test_stopping_ends_every_process_and_closes_every_port(stack: Stack) -> None:
    state = stack.state
    session = session_members(state)
    assert session.keys() >= {record.pid for record in state.processes.values()}

    stack.down()

    assert stack.state.processes == {}
    assert [port for port in state.taken_ports() if answers(port)] == []
    assert wait_until(lambda: not any(is_running(record_of(pid)) for pid in session), limit=10), session
    assert stack.state.postgresql == state.postgresql  # what it needs to start again, with its data


async def test_a_port_taken_by_somebody_else_is_left_to_them(database: Stack) -> None:
    first = database.up().postgresql
    assert first is not None
    await query(first.url, "CREATE TABLE kept (id int)")
    database.down()
    with socket.create_server(("127.0.0.1", first.port)):
        second = database.up().postgresql
        assert second is not None
        assert second.port != first.port
        assert await query(second.url, "SELECT count(*) FROM kept") == 0


def test_a_port_taken_between_our_look_and_the_start_is_left_to_whoever_was_first(
    database: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.stop("postgresql")
    choose = Stack._choose_settings
    with socket.socket() as somebody:

        def and_somebody_is_faster(stack: Stack) -> None:
            choose(stack)
            assert stack.state.postgresql is not None
            if somebody.getsockname()[1] == 0:
                somebody.bind(("127.0.0.1", stack.state.postgresql.port))
                somebody.listen()

        monkeypatch.setattr(Stack, "_choose_settings", and_somebody_is_faster)
        state = database.up()
        assert state.postgresql is not None
        assert state.postgresql.port != somebody.getsockname()[1]
    assert answers(state.postgresql.port)


async def test_a_number_that_somebody_else_has_got_since_does_not_keep_postgresql_down(database: Stack) -> None:
    settings = database.up().postgresql
    assert settings is not None
    database.kill("postgresql")
    lock = settings.data / "postmaster.pid"
    _, *rest = lock.read_text().splitlines()
    with a_process_of_the_servers_user() as somebody_else:
        lock.write_text("\n".join([str(somebody_else.pid), *rest]))

        database.up()

        assert await query(settings.url, "SELECT 1") == 1
        assert somebody_else.poll() is None


async def test_a_server_that_stands_still_answers_again_after_it(database: Stack) -> None:
    settings = database.up().postgresql
    assert settings is not None
    database.pause("postgresql")
    assert wait_until(lambda: not answers_as_postgresql(settings.url), limit=10)
    database.resume("postgresql")
    assert await query(settings.url, "SELECT 1") == 1


def test_what_an_interrupted_start_has_started_is_stopped(folder: Path) -> None:
    stack = Stack(folder / "one")
    for moment in ("epmd", "inbox", "postgresql", "rabbitmq"):
        starter = subprocess.Popen(
            [sys.executable, "-m", "taskbell_devstack", "up", "--directory", stack.directory],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        assert wait_until(lambda name=moment: name in stack.state.processes, limit=60)  # type: ignore[misc]
        starter.send_signal(signal.SIGKILL)
        starter.wait()
        state = stack.state
        session = session_members(state)

        stack.down(at_once=True)

        assert [port for port in state.taken_ports() if answers(port)] == []
        assert wait_until(lambda pids=session: not any(record_of(pid) for pid in pids), limit=10)  # type: ignore[misc]
    stack.down(remove_data=True)


def test_a_server_that_does_not_come_up_is_named_with_the_end_of_its_log(database: Stack) -> None:
    settings = database.up().postgresql
    assert settings is not None
    database.down()
    (settings.data / "global" / "pg_control").rename(settings.data / "gone")
    with pytest.raises(NotReady, match=r"postgresql ended while starting(.|\n)*pg_control"):
        database.up()


def test_data_lie_where_the_servers_user_can_reach_them(folder: Path) -> None:
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    stack = Stack(closed / "stack", servers=["postgresql"])
    try:
        settings = stack.up().postgresql
        assert settings is not None
        # Only root needs another user, who cannot get in here.
        assert settings.data.is_relative_to(OUTSIDE if os.geteuid() == 0 else closed)
    finally:
        stack.down(at_once=True, remove_data=True)
    assert not settings.data.parent.exists()
    assert is_free(settings.port)
    closed.rmdir()


@contextlib.contextmanager
def a_process_of_the_servers_user() -> Iterator[subprocess.Popen[bytes]]:
    """PostgreSQL takes only such a one for a server."""
    with subprocess.Popen(["sleep", "600"], **as_account(server_account())) as process:
        yield process
        process.kill()


def answers_as_postgresql(url: str) -> bool:
    """Whether a client gets past the greeting within a second."""
    host, _, port = url.rpartition("@")[2].partition("/")[0].partition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=1) as client:
            client.sendall(bytes.fromhex("0000000804d2162f"))  # SSLRequest, which every server answers with one letter
            return bool(client.recv(1))
    except OSError:
        return False


def listening() -> set[tuple[str, int]]:
    """Every address and port of this machine that accepts TCP connections."""
    found = set()
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":
                address, _, port = fields[1].partition(":")
                words = bytes.fromhex(address)
                raw = b"".join(words[i : i + 4][::-1] for i in range(0, len(words), 4))
                found.add((socket.inet_ntop(family, raw), int(port, 16)))
    return found


def session_members(state: StackState) -> dict[int, str]:
    """The processes on record and all that descend from them, with their names."""
    parents = {}
    names = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, fields = stat.read_text().rpartition(")")
        except OSError:
            continue  # ended meanwhile
        pid = int(stat.parent.name)
        parents[pid] = int(fields.split()[1])
        names[pid] = name
    members = {record.pid for record in state.processes.values()}
    while grown := {pid for pid, parent in parents.items() if parent in members} - members:
        members |= grown
    return {pid: names.get(pid, "") for pid in members}
