"""A service as a process: started, asked, stopped."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from taskbell_devstack.waiting import wait_until

SMALL_SERVICE = Path(__file__).with_name("small_service.py")


class Running:
    """The small service as a process."""

    def __init__(self, *arguments: str, release: Path, **environment: str) -> None:
        given = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
            "DATABASE_URL": "postgresql://app:pw@127.0.0.1:1/x",
            "BROKER_URL": "amqp://app:pw@127.0.0.1:1/",
            "SMALL_NOTE": "hello",
            "SMALL_RELEASE": str(release),
            "LOG_FORMAT": "json",
        }
        self._release = release
        self.process = subprocess.Popen(
            [sys.executable, SMALL_SERVICE, *arguments],
            env=given | environment,
            cwd=release.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.said: list[str] = []
        self.logged: list[str] = []
        self._readers = [
            threading.Thread(target=self._read, args=(stream, into), daemon=True)
            for stream, into in ((self.process.stdout, self.said), (self.process.stderr, self.logged))
        ]
        for reader in self._readers:
            reader.start()

    @staticmethod
    def _read(stream: Any, into: list[str]) -> None:
        for line in stream:
            into.append(line.rstrip("\n"))  # noqa: PERF401 - line by line, for whoever waits for one

    def wait_for(self, what: Callable[[], object]) -> None:
        assert wait_until(lambda: bool(what()), limit=30), (self.said, self.logged)

    def wait_to_say(self, words: str) -> None:
        self.wait_for(lambda: words in self.said)

    def release(self) -> None:
        self._release.touch()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    def status(self) -> int:
        """The exit status, once it has ended and all it said is here."""
        status = self.process.wait(30)
        for reader in self._readers:
            reader.join(10)
        return status

    def events(self, name: str) -> list[dict[str, Any]]:
        return [line for line in map(json.loads, self.logged) if line["event"] == name]

    @property
    def url(self) -> str:
        self.wait_for(lambda: any("http.listening" in line for line in self.logged))
        return str(self.events("http.listening")[0]["url"])

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.url + path, timeout=30, trust_env=False)


Start = Callable[..., Running]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[Running] = []

    def run(*arguments: str, **environment: str) -> Running:
        started.append(Running(*arguments, release=tmp_path / "release", **environment))
        return started[-1]

    yield run
    for running in started:
        with contextlib.suppress(ProcessLookupError):
            running.process.kill()
        running.process.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_it_drains_closes_in_order_and_exits_0(start: Start, number: signal.Signals) -> None:
    service = start("draining")
    service.wait_to_say("running draining")
    service.stop(number)
    service.wait_to_say("told to stop draining")
    assert service.process.poll() is None
    service.release()
    assert service.status() == 0
    assert service.said == [
        "running draining",
        "told to stop draining",
        "ended draining",
        "closed draining 1",
        "closed draining 2",
    ]
    assert [line["event"] for line in map(json.loads, service.logged)][-2:] == ["service.stopping", "service.stopped"]


def test_a_second_signal_changes_nothing(start: Start) -> None:
    service = start("draining")
    service.wait_to_say("running draining")
    service.stop()
    service.wait_to_say("told to stop draining")
    service.stop()
    service.stop(signal.SIGINT)
    service.release()
    assert service.status() == 0
    assert "ended draining" in service.said


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_signals_change_nothing_until_the_process_has_ended(start: Start, tmp_path: Path, loop: str) -> None:
    leave = tmp_path / "leave"
    service = start("steady", SMALL_LEAVING=str(leave), SMALL_LOOP=loop)
    service.wait_to_say("running steady")
    service.stop()
    service.wait_to_say("leaving")
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM, signal.SIGINT):
        service.stop(number)
    leave.touch()
    assert service.status() == 0
    assert service.said[-1] == "left"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_it_starts_ends_it_with_0_and_nothing_runs(start: Start, number: signal.Signals) -> None:
    service = start("starting")
    service.wait_to_say("starting")
    service.stop(number)
    assert service.status() == 0
    assert service.said == ["starting"]


@pytest.mark.parametrize("name", ["taskbell_scheduler", "taskbell_notifier", "taskbell_maintenance"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_each_service_ends_with_0_also_if_it_is_stopped_while_it_is_imported(
    tmp_path: Path, name: str, number: signal.Signals
) -> None:
    """A module that it imports says so, and then takes for ever."""
    words = "print('importing', flush=True)\nimport threading\nthreading.Event().wait()\n"
    (tmp_path / "uvicorn.py").write_text(words)
    process = subprocess.Popen(
        [sys.executable, "-m", name], cwd=tmp_path, env={"PATH": os.environ["PATH"]}, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"importing\n"
        process.send_signal(number)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.communicate()


def test_probes_are_answered_also_while_it_drains(start: Start) -> None:
    service = start("draining")
    assert service.get("/livez").text == "ok\n"
    service.wait_for(lambda: service.get("/readyz").status_code == 200)
    assert service.get("/readyz").json() == {"status": "ready", "parts": {"part": {"state": "ready"}}}
    assert service.get("/draining").text == "draining: hello"
    metrics = service.get("/metrics")
    assert "taskbell_messages_total" in metrics.text
    assert metrics.headers["content-type"].startswith("text/plain")
    assert service.get("/nothing").status_code == 404

    service.stop()
    service.wait_to_say("told to stop draining")
    answer = service.get("/readyz")
    assert answer.status_code == 503
    assert answer.json() == {"status": "waiting", "parts": {"part": {"state": "waiting", "detail": "draining"}}}
    assert service.get("/livez").status_code == 200
    service.release()
    assert service.status() == 0


@pytest.mark.parametrize(("name", "error"), [("ending", None), ("failing", "ValueError")])
def test_a_part_that_ends_by_itself_ends_the_process_so_that_it_is_started_anew(
    start: Start, name: str, error: str | None
) -> None:
    service = start(name, "steady")
    service.wait_to_say("running steady")
    service.release()
    assert service.status() == 1
    assert f"ended {name}" in service.said
    assert "told to stop steady" in service.said
    assert "closed steady 2" in service.said
    (event,) = service.events("part.ended")
    assert event["part"] == f"Part({name})"
    assert (event["exception"][0]["exc_type"] if "exception" in event else None) == error


def test_a_failure_while_stopping_is_told_and_counts(start: Start) -> None:
    service = start("late_failure", "steady")
    service.wait_to_say("running steady")
    service.wait_to_say("running late_failure")
    service.stop()
    assert service.status() == 1
    (event,) = service.events("part.failed_while_stopping")
    assert event["part"] == "Part(late_failure)"
    assert "closed steady 2" in service.said


def test_what_does_not_end_is_cut_off_when_the_grace_is_over(start: Start) -> None:
    service = start("stubborn", "steady", SMALL_GRACE="0.3")
    service.wait_to_say("running stubborn")
    service.stop()
    assert service.status() == 0
    assert [event["part"] for event in service.events("part.cancelled")] == ["Part(stubborn)"]
    assert "ended stubborn" in service.said
    assert "closed stubborn 2" in service.said


@pytest.mark.parametrize(
    ("how", "event", "closed"), [("fails", "close.failed", ["1", "2"]), ("hangs", "close.cut_off", ["1"])]
)
def test_what_cannot_be_closed_does_not_keep_the_process(start: Start, how: str, event: str, closed: list[str]) -> None:
    service = start("steady", SMALL_CLOSE=how, SMALL_GRACE="0.3")
    service.wait_to_say("running steady")
    service.stop()
    assert service.status() == 0
    assert [line.split()[-1] for line in service.said if line.startswith("closed")] == closed
    assert service.events(event)


def test_several_services_share_a_process_and_speak_for_themselves(start: Start) -> None:
    service = start("steady", "draining")
    service.wait_for(lambda: service.get("/readyz").status_code == 200)
    assert set(service.get("/readyz").json()["parts"]) == {"steady part", "draining part"}
    assert [service.get(path).text for path in ("/steady", "/draining")] == ["steady: hello", "draining: hello"]
    assert service.events("http.listening")[0]["service"] == "steady+draining"
    service.stop()
    service.wait_to_say("ended steady")
    assert service.get("/readyz").json()["parts"]["draining part"]["detail"] == "draining"
    service.release()
    assert service.status() == 0
    assert [line for line in service.said if line.startswith("closed")] == [
        "closed steady 1",
        "closed steady 2",
        "closed draining 1",
        "closed draining 2",
    ]


def test_wrong_settings_are_told_once_each_and_nothing_starts(start: Start) -> None:
    service = start("steady", "draining", TIMEZONE="Nowhere", SMALL_NOTE="")
    assert service.status() == 2
    assert service.said == []
    assert sorted(service.logged) == [
        "SMALL_NOTE is not set: Something to say",
        "TIMEZONE: 'Nowhere' is not an IANA time zone; give one such as Europe/Berlin or UTC",
    ]


@pytest.mark.parametrize("listening", [True, False])
def test_a_port_in_use_is_told_with_its_variable_and_nothing_starts(start: Start, listening: bool) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        if listening:
            taken.listen()
        port = taken.getsockname()[1]
        service = start("steady", HTTP_PORT=str(port))
        assert service.status() == 2
    assert service.said == []
    assert service.logged == [
        f"cannot listen on 127.0.0.1:{port} (Address already in use): change HTTP_HOST or HTTP_PORT"
    ]


def test_two_that_want_the_same_port_at_once_do_not_both_get_it(start: Start) -> None:
    first = start("steady")
    port = first.url.rpartition(":")[2]
    second = start("steady", HTTP_PORT=port)
    assert second.status() == 2
    assert first.get("/livez").status_code == 200


def test_it_listens_where_it_is_told(start: Start) -> None:
    service = start("steady", HTTP_HOST="::1")
    assert re.fullmatch(r"http://\[::1\]:\d+", service.url)
    assert service.get("/livez").text == "ok\n"


def test_help_names_every_setting(start: Start) -> None:
    service = start("steady", "--main", "--help")
    assert service.status() == 0
    said = "\n".join(service.said)
    for line in ("SMALL_NOTE", "Something to say", "DATABASE_URL", "HTTP_PORT", "[UTC]"):
        assert line in said
    assert said.startswith("usage: python -m taskbell_steady")


def test_main_says_in_a_sentence_why_it_cannot_start(start: Start) -> None:
    service = start("steady", "--main", BROKER_URL="nonsense")
    assert service.status() == 2
    assert service.logged[0] == "steady cannot start:"
    assert service.logged[1].startswith("BROKER_URL: must look like amqp://")
