"""The hooks that run before a commit are the checks of `make check`, and fetch nothing."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[3]
CONFIGURATION = ROOT / ".pre-commit-config.yaml"


def hooks() -> list[dict[str, Any]]:
    return [hook for repo in yaml.safe_load(CONFIGURATION.read_text())["repos"] for hook in repo["hooks"]]


def test_pre_commit_understands_them() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pre_commit", "validate-config", CONFIGURATION],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_they_come_from_this_repository_and_fetch_nothing() -> None:
    assert {repo["repo"] for repo in yaml.safe_load(CONFIGURATION.read_text())["repos"]} == {"local"}
    assert {hook["language"] for hook in hooks()} == {"system"}
    assert not [hook["id"] for hook in hooks() if "additional_dependencies" in hook]


def test_they_are_the_checks_of_make_check() -> None:
    (recipe,) = re.findall(r"^check:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    commands = [line.removeprefix("\t@$(BIN)/").removesuffix(" .") for line in recipe.splitlines()]
    entries = [str(hook["entry"]).removeprefix(".venv/bin/").removesuffix(" --force-exclude") for hook in hooks()]
    assert entries == commands
