"""GitHub can read the forms and the workflow, and the workflow runs what it says."""

import os
import re
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.servers import choose

ROOT = Path(__file__).parents[3]
GITHUB = ROOT / ".github"
FORMS = sorted(GITHUB.glob("ISSUE_TEMPLATE/*.yml"))
WORKFLOWS = sorted(GITHUB.glob("workflows/*.yml"))

PYTHONS = ["3.11", "3.12", "3.13", "3.14"]
RABBITMQS = ["3.10", "4"]
POSTGRESQLS = ["15", "17"]


def jobs() -> dict[str, Any]:
    """The jobs of the workflow that tests."""
    return dict(yaml.safe_load((GITHUB / "workflows" / "test.yml").read_text())["jobs"])


def check(schema: str, *files: Path) -> str:
    """What the checker says of these files; nothing if they are valid."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}"]
    done = subprocess.run([*command, *files], capture_output=True, text=True, check=False, cwd=ROOT)
    return done.stdout + done.stderr if done.returncode else ""


@pytest.mark.parametrize(
    ("schema", "files"),
    [
        ("github-workflows", WORKFLOWS),
        ("github-issue-forms", [form for form in FORMS if form.stem != "config"]),
        ("github-issue-config", [form for form in FORMS if form.stem == "config"]),
    ],
)
def test_every_file_is_as_github_wants_it(schema: str, files: list[Path]) -> None:
    assert files
    assert check(schema, *files) == ""


def test_a_mistake_would_be_seen(tmp_path: Path) -> None:
    mistaken = tmp_path / "test.yml"
    mistaken.write_text((GITHUB / "workflows" / "test.yml").read_text().replace("runs-on:", "run-on:"))
    assert "runs-on" in check("github-workflows", mistaken)


def test_every_pair_of_servers_is_tested_with_every_python() -> None:
    matrix = jobs()["test"]["strategy"]["matrix"]
    # Whoever takes a quotation mark away makes 3.10 the number 3.1.
    cells = list(product(matrix["python"], matrix["rabbitmq"], matrix["postgresql"]))
    assert cells == list(product(PYTHONS, RABBITMQS, POSTGRESQLS))
    assert not {"include", "exclude"} & set(matrix)


def test_no_job_may_fail_or_run_for_ever() -> None:
    for name, job in jobs().items():
        assert "continue-on-error" not in job, name
        assert job["timeout-minutes"] <= 90, name


def test_jobs_call_what_the_makefile_and_tools_have() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    commands = "\n".join(step.get("run", "") for job in jobs().values() for step in job["steps"])
    called = set(re.findall(r"^make ([a-z-]+)", commands, re.MULTILINE))
    assert called == {"setup", "check", "audit", "test-unit", "test", "test-stack"}
    assert called <= targets
    tools = re.findall(r"^tools/[a-z-]+", commands, re.MULTILINE)
    assert tools
    assert [tool for tool in tools if not (ROOT / tool).exists()] == []


def test_the_images_of_a_cell_are_what_its_tests_start() -> None:
    """In a process of its own: tests read the environment when they begin."""
    given = {name: str(value) for name, value in jobs()["test"]["env"].items()}
    for field, value in (("rabbitmq", "3.10"), ("postgresql", "15")):
        given = {name: text.replace("${{ matrix." + field + " }}", value) for name, text in given.items()}
    other = {name: value for name, value in os.environ.items() if not name.startswith("TEST_")}
    done = subprocess.run(
        [sys.executable, "-c", "from tests.support import containers; print(*containers.IMAGES)"],
        env=other | given,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["postgres:15", "rabbitmq:3.10-management"]
    assert given["TEST_SERVERS"] == "containers"


def test_servers_are_chosen_by_a_word_that_tests_know(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.support.containers.missing_images", list)
    assert choose({"TEST_SERVERS": jobs()["test"]["env"]["TEST_SERVERS"]}).kind == "containers"


def test_every_form_asks_for_what_it_cannot_do_without() -> None:
    for form in FORMS:
        if form.stem == "config":
            continue
        asked = [field for field in yaml.safe_load(form.read_text())["body"] if field["type"] != "markdown"]
        assert any(field.get("validations", {}).get("required") for field in asked), form.name
