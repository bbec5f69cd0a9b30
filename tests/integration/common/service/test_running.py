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

TINY = Path(__file__).with_name("tiny.py")


class Running:
    """A tiny service."""

    def __init__(self, *arguments: str, release: Path, **environment: str) -> None:
        given = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
            "DATABASE_URL": "postgresql://app:pw@127.0.0.1:1/x",
            "BROKER_URL": "amqp://app:pw@127.0.0.1:1/",
            "TINY_NOTE": "hello",
            "TINY_RELEASE": str(release),
            "LOG_FORMAT": "json",
        }
        self._release = release
        self.process = subprocess.Popen(
            [sys.executable, TINY, *arguments],
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
    tiny = start("draining")
    tiny.wait_to_say("running draining")
    tiny.stop(number)
    tiny.wait_to_say("told to stop draining")
    assert tiny.process.poll() is None
    tiny.release()
    assert tiny.status() == 0
    assert tiny.said == [
        "running draining",
        "told to stop draining",
        "ended draining",
        "closed draining 1",
        "closed draining 2",
    ]
    assert [line["event"] for line in map(json.loads, tiny.logged)][-2:] == ["service.stopping", "service.stopped"]


def test_a_second_signal_changes_nothing(start: Start) -> None:
    tiny = start("draining")
    tiny.wait_to_say("running draining")
    tiny.stop()
    tiny.wait_to_say("told to stop draining")
    tiny.stop()
    tiny.stop(signal.SIGINT)
    tiny.release()
    assert tiny.status() == 0
    assert "ended draining" in tiny.said


def test_probes_are_answered_also_while_it_drains(start: Start) -> None:
    tiny = start("draining")
    assert tiny.get("/livez").text == "ok\n"
    tiny.wait_for(lambda: tiny.get("/readyz").status_code == 200)
    assert tiny.get("/readyz").json() == {"status": "ready", "parts": {"part": {"state": "ready"}}}
    assert tiny.get("/draining").text == "draining: hello"
    metrics = tiny.get("/metrics")
    assert "taskbell_messages_total" in metrics.text
    assert metrics.headers["content-type"].startswith("text/plain")
    assert tiny.get("/nothing").status_code == 404

    tiny.stop()
    tiny.wait_to_say("told to stop draining")
    answer = tiny.get("/readyz")
    assert answer.status_code == 503
    assert answer.json() == {"status": "waiting", "parts": {"part": {"state": "waiting", "detail": "draining"}}}
    assert tiny.get("/livez").status_code == 200
    tiny.release()
    assert tiny.status() == 0


@pytest.mark.parametrize(("name", "error"), [("ending", None), ("failing", "ValueError")])
def test_a_part_that_ends_by_itself_ends_the_process_so_that_it_is_started_anew(
    start: Start, name: str, error: str | None
) -> None:
    tiny = start(name, "steady")
    tiny.wait_to_say("running steady")
    tiny.release()
    assert tiny.status() == 1
    assert f"ended {name}" in tiny.said
    assert "told to stop steady" in tiny.said
    assert "closed steady 2" in tiny.said
    (event,) = tiny.events("part.ended")
    assert event["part"] == f"Part({name})"
    assert (event["exception"][0]["exc_type"] if "exception" in event else None) == error


def test_a_failure_while_stopping_is_told_and_counts(start: Start) -> None:
    tiny = start("late_failure", "steady")
    tiny.wait_to_say("running steady")
    tiny.wait_to_say("running late_failure")
    tiny.stop()
    assert tiny.status() == 1
    (event,) = tiny.events("part.failed_while_stopping")
    assert event["part"] == "Part(late_failure)"
    assert "closed steady 2" in tiny.said


def test_what_does_not_end_is_cut_off_when_the_grace_is_over(start: Start) -> None:
    tiny = start("stubborn", "steady", TINY_GRACE="0.3")
    tiny.wait_to_say("running stubborn")
    tiny.stop()
    assert tiny.status() == 0
    assert [event["part"] for event in tiny.events("part.cancelled")] == ["Part(stubborn)"]
    assert "ended stubborn" in tiny.said
    assert "closed stubborn 2" in tiny.said


@pytest.mark.parametrize(
    ("how", "event", "closed"), [("fails", "close.failed", ["1", "2"]), ("hangs", "close.cut_off", ["1"])]
)
def test_what_cannot_be_closed_does_not_keep_the_process(start: Start, how: str, event: str, closed: list[str]) -> None:
    tiny = start("steady", TINY_CLOSE=how, TINY_GRACE="0.3")
    tiny.wait_to_say("running steady")
    tiny.stop()
    assert tiny.status() == 0
    assert [line.split()[-1] for line in tiny.said if line.startswith("closed")] == closed
    assert tiny.events(event)


def test_several_services_share_a_process_and_speak_for_themselves(start: Start) -> None:
    tiny = start("steady", "draining")
    tiny.wait_for(lambda: tiny.get("/readyz").status_code == 200)
    assert set(tiny.get("/readyz").json()["parts"]) == {"steady part", "draining part"}
    assert [tiny.get(path).text for path in ("/steady", "/draining")] == ["steady: hello", "draining: hello"]
    assert tiny.events("http.listening")[0]["service"] == "steady+draining"
    tiny.stop()
    tiny.wait_to_say("ended steady")
    assert tiny.get("/readyz").json()["parts"]["draining part"]["detail"] == "draining"
    tiny.release()
    assert tiny.status() == 0
    assert [line for line in tiny.said if line.startswith("closed")] == [
        "closed steady 1",
        "closed steady 2",
        "closed draining 1",
        "closed draining 2",
    ]


def test_wrong_settings_are_told_once_each_and_nothing_starts(start: Start) -> None:
    tiny = start("steady", "draining", TIMEZONE="Nowhere", TINY_NOTE="")
    assert tiny.status() == 2
    assert tiny.said == []
    assert sorted(tiny.logged) == [
        "TIMEZONE: 'Nowhere' is no IANA time zone; give one such as Europe/Berlin or UTC",
        "TINY_NOTE is not set: Something to say",
    ]


@pytest.mark.parametrize("listening", [True, False])
def test_a_port_in_use_is_told_with_its_variable_and_nothing_starts(start: Start, listening: bool) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        if listening:
            taken.listen()
        port = taken.getsockname()[1]
        tiny = start("steady", HTTP_PORT=str(port))
        assert tiny.status() == 2
    assert tiny.said == []
    assert tiny.logged == [f"cannot listen on 127.0.0.1:{port} (Address already in use): change HTTP_HOST or HTTP_PORT"]


def test_two_that_want_the_same_port_at_once_do_not_both_get_it(start: Start) -> None:
    first = start("steady")
    port = first.url.rpartition(":")[2]
    second = start("steady", HTTP_PORT=port)
    assert second.status() == 2
    assert first.get("/livez").status_code == 200


def test_it_listens_where_it_is_told(start: Start) -> None:
    tiny = start("steady", HTTP_HOST="::1")
    assert re.fullmatch(r"http://\[::1\]:\d+", tiny.url)
    assert tiny.get("/livez").text == "ok\n"


def test_help_names_every_setting(start: Start) -> None:
    tiny = start("steady", "--main", "--help")
    assert tiny.status() == 0
    said = "\n".join(tiny.said)
    for line in ("TINY_NOTE", "Something to say", "DATABASE_URL", "HTTP_PORT", "[UTC]"):
        assert line in said
    assert said.startswith("usage: python -m taskbell_steady")


def test_main_says_in_a_sentence_why_it_cannot_start(start: Start) -> None:
    tiny = start("steady", "--main", BROKER_URL="nonsense")
    assert tiny.status() == 2
    assert tiny.logged[0] == "steady cannot start:"
    assert tiny.logged[1].startswith("BROKER_URL: must look like amqp://")
