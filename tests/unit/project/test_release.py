"""`make release`: what it makes is valid, agrees with itself, and is the same every time."""

import hashlib
import json
import re
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
PYTHON = ROOT / ".dev" / "release" / "bin" / "python"
OURS = {"taskbell", "taskbell-devstack", "taskbell-scheduler", "taskbell-notifier", "taskbell-maintenance"}


def git(folder: Path, *arguments: str) -> str:
    me = ["-c", "user.name=Tests", "-c", "user.email=tests@example.org", "-c", "core.hooksPath=/dev/null"]
    done = subprocess.run(["git", *me, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def release(checkout: Path, into: Path) -> subprocess.CompletedProcess[str]:
    command = [PYTHON, checkout / "tools" / "release", into]
    return subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False, timeout=200)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout of what lies here, committed."""
    assert PYTHON.exists(), "`make test` installs the tools for releases into .dev/release: run it, or `make audit`"
    folder = tmp_path_factory.mktemp("checkout") / "taskbell"
    listed = git(ROOT, "ls-files", "--cached", "--others", "--exclude-standard", "-z", "libs", "services", "tools")
    locks = git(ROOT, "ls-files", "--cached", "--others", "--exclude-standard", "-z", "requirements", ".gitignore")
    for name in filter(None, (listed + "\0" + locks).split("\0")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes((ROOT / name).read_bytes())
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "A release")
    return folder


@pytest.fixture(scope="module")
def made(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "dist"
    done = release(checkout, folder)
    assert done.returncode == 0, done.stderr
    assert "unsigned" in done.stdout
    return folder


def read(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_text())
    return document


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_every_distribution_has_a_wheel(made: Path) -> None:
    assert {path.name.split("-")[0].replace("_", "-") for path in made.glob("*.whl")} == OURS


def test_the_sums_are_those_of_all_other_files(made: Path) -> None:
    sums = dict(reversed(line.split("  ")) for line in (made / "SHA256SUMS").read_text().splitlines())
    assert sums == {path.name: sha256(path) for path in made.iterdir() if path.name != "SHA256SUMS"}


def test_the_provenance_names_every_wheel_and_the_commit(made: Path, checkout: Path) -> None:
    statement = read(made / "taskbell.provenance.json")
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "https://slsa.dev/provenance/v1"
    subjects = {it["name"]: it["digest"]["sha256"] for it in statement["subject"]}
    assert subjects == {path.name: sha256(path) for path in made.glob("*.whl")}
    definition = statement["predicate"]["buildDefinition"]
    source, tools = definition["resolvedDependencies"]
    assert source["digest"] == {"gitCommit": git(checkout, "rev-parse", "HEAD")}
    assert tools["digest"] == {"sha256": sha256(checkout / "requirements" / "release.txt")}
    assert "unsigned" in json.dumps(statement["predicate"]["runDetails"]["metadata"])


def test_the_sbom_has_our_packages_and_every_one_that_they_install(made: Path) -> None:
    document = read(made / "taskbell.cdx.json")
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    found = {it["name"]: it["version"] for it in document["components"]}
    locks = "".join((ROOT / "requirements" / f"{name}.txt").read_text() for name in ("operator", "devstack"))
    assert found.keys() - OURS == set(re.findall(r"^([a-z0-9-]+)==", locks, re.MULTILINE))
    assert found.items() >= dict(re.findall(r"^([a-z0-9-]+)==([^\s;]+)", locks, re.MULTILINE)).items()
    assert all(it["properties"] for it in document["components"] if it["name"] not in OURS), "each has its hashes"
    validated = subprocess.run(
        [
            *(PYTHON, "-c"),
            "import sys; from cyclonedx.schema import SchemaVersion as V;"
            "from cyclonedx.validation.json import JsonStrictValidator as J;"
            "sys.exit(str(J(V.V1_6).validate_str(sys.stdin.read()) or '') or 0)",
        ],
        input=(made / "taskbell.cdx.json").read_text(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert validated.returncode == 0, validated.stderr


def test_the_same_commit_gives_the_same_bytes(made: Path, checkout: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere"
    git(tmp_path, "clone", "--quiet", str(checkout), str(copy))
    assert release(copy, tmp_path / "dist").returncode == 0
    assert (tmp_path / "dist" / "SHA256SUMS").read_text() == (made / "SHA256SUMS").read_text()


def test_no_path_of_this_machine_and_no_registry_is_in_it(made: Path, checkout: Path) -> None:
    texts = [path.read_text() for path in made.iterdir() if path.suffix != ".whl"]
    for wheel in made.glob("*.whl"):
        with zipfile.ZipFile(wheel) as packed:
            texts += [packed.read(name).decode(errors="replace") for name in packed.namelist() if "dist-info" in name]
    for folder in (str(ROOT), str(checkout), f"{Path.home()}/", "/tmp/"):
        assert not [text for text in texts if folder in text], folder
    documents = "".join(path.read_text() for path in made.glob("*.json"))
    assert set(re.findall(r"https?://([^/\"]+)", documents)) == {"cyclonedx.org", "in-toto.io", "slsa.dev"}


def test_a_tree_with_changes_is_refused_with_what_to_do(checkout: Path, tmp_path: Path) -> None:
    stray = checkout / "stray.txt"
    stray.write_text("not committed")
    try:
        done = release(checkout, tmp_path / "dist")
    finally:
        stray.unlink()
    assert done.returncode == 1
    assert "stray.txt: commit or stash them first" in done.stderr
    assert not (tmp_path / "dist").exists()
