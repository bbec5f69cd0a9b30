"""`make audit`: it fails if there is a weakness, and says so if it could not look."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
SAFE = {"name": "safe", "version": "1.0", "vulns": []}
WEAK = {"name": "weak", "version": "1.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["1.1"]}]}
UNKNOWN = {"name": "unknown", "skip_reason": "Dependency not found"}


def audit(folder: Path, program: str) -> subprocess.CompletedProcess[str]:
    """Runs it with a pip-audit that behaves as this program does."""
    (folder / "pip_audit.py").write_text(program)
    return subprocess.run(
        [sys.executable, ROOT / "tools" / "audit"],
        env=os.environ | {"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def answering(*packages: dict[str, Any]) -> str:
    return f"print({json.dumps(json.dumps({'dependencies': packages}))})"


@pytest.mark.parametrize(
    ("packages", "status", "words"),
    [
        ([SAFE], 0, "0 published weaknesses in 1 audited packages; 0 were not audited."),
        ([SAFE, WEAK], 1, "weak 1.0: PYSEC-1, fixed in 1.1\n"),
        ([SAFE, UNKNOWN], 0, "not audited: unknown: Dependency not found\n"),
        ([UNKNOWN], 0, "NOT AUDITED: no database of advisories tells about the pinned packages: it knows none of them"),
    ],
)
def test_what_was_found_decides_the_exit_status(
    tmp_path: Path, packages: list[dict[str, Any]], status: int, words: str
) -> None:
    done = audit(tmp_path, answering(*packages))
    assert done.returncode == status, done.stderr
    assert words in done.stdout


def test_a_database_that_cannot_be_reached_is_said_and_fails_nothing(tmp_path: Path) -> None:
    done = audit(tmp_path, "raise SystemExit('pip_audit._service.interface.ConnectionError: no route to host')")
    assert done.returncode == 0
    assert done.stdout.startswith(
        "NOT AUDITED: no database of advisories tells about the pinned packages: it cannot be"
    )


def test_any_other_failure_is_one(tmp_path: Path) -> None:
    done = audit(tmp_path, "raise SystemExit('requirements are malformed')")
    assert done.returncode == 1
    assert "requirements are malformed" in done.stdout


def test_every_file_with_hashes_of_what_runs_or_builds_is_asked_about(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; given = [Path(it) for it in sys.argv if it.endswith('.txt')]; "
        f"Path({str(tmp_path / 'asked')!r}).write_text(' '.join(it.stem for it in given))"
    )
    audit(tmp_path, program)
    asked = set((tmp_path / "asked").read_text().split())
    # The operator's has what the three services have.
    assert asked | {"scheduler", "notifier", "maintenance"} == {
        path.stem for path in (ROOT / "requirements").glob("*.txt") if "--hash=" in path.read_text()
    }
