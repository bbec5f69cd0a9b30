"""Processes: none runs unrecorded, none is signalled by mistake."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from taskbell_devstack.processes import Launch, Launcher, ProcessRecord, is_running, record_by_ps, record_of, send, tail
from taskbell_devstack.waiting import wait_until

SLEEP = "import time; time.sleep(600)"


@pytest.fixture
def launcher() -> Launcher:
    return Launcher()


def launch(folder: Path, program: str, *arguments: str) -> Launch:
    return Launch(
        name="probe",
        argv=[sys.executable, "-c", program, *arguments],
        environment={"PATH": os.environ["PATH"]},
        directory=folder,
        log=folder / "log" / "probe.log",
    )


def record_of_self() -> ProcessRecord:
    record = record_of(os.getpid())
    assert record is not None
    return record


def test_a_program_begins_only_after_it_is_on_record(launcher: Launcher, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    seen: list[bool] = []

    def remember(record: ProcessRecord) -> None:
        # Long enough for a program that did not wait to have begun.
        wait_until(begun.exists, limit=0.3)
        seen.append(begun.exists())

    record = launcher.start(launch(tmp_path, f"open({str(begun)!r}, 'w'); {SLEEP}"), record=remember)

    assert wait_until(begun.exists, limit=30)
    assert seen == [False]
    launcher.stop(record, number=signal.SIGTERM, limit=10)


def test_a_program_never_begins_when_its_starter_dies_before_it_is_on_record(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    starter = f"""
import os, signal
from pathlib import Path
from taskbell_devstack.processes import Launch, Launcher
def die(record):
    print(record.model_dump_json(), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
Launcher().start(
    Launch(name="probe", argv=["/bin/sh", "-c", "touch '{begun}'; sleep 600"], environment={{"PATH": "/usr/bin:/bin"}},
           directory=Path("/"), log=Path({str(tmp_path / "log")!r})),
    record=die,
)"""
    died = subprocess.run([sys.executable, "-c", starter], capture_output=True, text=True, check=False)

    assert died.returncode == -signal.SIGKILL, died.stderr
    started = ProcessRecord.model_validate_json(died.stdout)
    assert wait_until(lambda: not is_running(started), limit=30)
    assert not begun.exists()


def test_a_record_is_not_taken_for_a_later_process_with_the_same_number() -> None:
    mine = record_of_self()
    earlier = ProcessRecord(pid=mine.pid, born="before")
    assert is_running(mine)
    assert not is_running(earlier)
    send(earlier, signal.SIGKILL)  # would end this test run


def test_a_process_that_does_not_listen_is_killed_when_its_time_is_up(launcher: Launcher, tmp_path: Path) -> None:
    deaf = launch(tmp_path, f"import signal; signal.signal(15, signal.SIG_IGN); open('deaf', 'w'); {SLEEP}")
    record = launcher.start(deaf, record=lambda _: None)
    assert wait_until((tmp_path / "deaf").exists, limit=30)

    launcher.stop(record, number=signal.SIGTERM, limit=0.2)

    assert record_of(record.pid) is None


def test_a_process_that_nobody_has_buried_counts_as_ended() -> None:
    with subprocess.Popen(["/bin/sh", "-c", "read line"], stdin=subprocess.PIPE) as child:
        record = record_of(child.pid)
        assert record is not None
        assert child.stdin is not None
        child.stdin.close()
        # Not waited for yet: it is a zombie as long as we do not ask.
        assert wait_until(lambda: not is_running(record), limit=30)
        child.stdin = None


def test_without_proc_a_process_is_told_by_the_time_of_its_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = {"7": "S    Sun Nov 22 10:00:00 2026", "8": "Zs   Sun Nov 22 10:00:00 2026", "9": ""}
    answers = "".join(f'{pid}) echo "{answer}" ;; ' for pid, answer in said.items())
    (tmp_path / "ps").write_text(f'#!/bin/sh\ncase "$4" in {answers} esac\n')
    (tmp_path / "ps").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert record_by_ps(7) == ProcessRecord(pid=7, born="Sun Nov 22 10:00:00 2026")
    assert record_by_ps(8) is None  # a zombie
    assert record_by_ps(9) is None


def test_only_the_given_environment_reaches_a_program(
    launcher: Launcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAIL_PASSWORD", "of somebody else")
    program = "import os; open('seen', 'w').write(repr('MAIL_PASSWORD' in os.environ))"
    record = launcher.start(launch(tmp_path, program), record=lambda _: None)

    assert wait_until(lambda: not launcher.is_running(record), limit=30)
    assert (tmp_path / "seen").read_text() == "False"


def test_what_a_program_says_is_in_its_log(launcher: Launcher, tmp_path: Path) -> None:
    program = "import sys; print('out'); sys.stdout.flush(); sys.exit('and error')"
    record = launcher.start(launch(tmp_path, program), record=lambda _: None)

    assert wait_until(lambda: not launcher.is_running(record), limit=30)
    assert tail(tmp_path / "log" / "probe.log") == "out\nand error"


def test_the_end_of_a_log_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert tail(tmp_path / "none") == ""
