"""Packages that extend Taskbell, as pip would leave them: a module and a dist-info folder in a folder on the path."""

import contextlib
import importlib
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from taskbell import catalogue, extensions

TIMESHEETS = """
from taskbell.extend import Contract, Extension, Grant, Id, Listen, Message, Text

class Approve(Contract):
    entry_id: Id
    by: Text | None = None

class Closed(Contract):
    month: Text

extension = Extension(
    messages=(
        Message(
            "timesheets.approve", "command", Approve, "anyone", "approve an entry", "timesheets", by_anyone=True
        ),
        Message(
            "month.closed", "event", Closed, "timesheets", "a month is closed", None, by_anyone=False,
            published_by=("timesheets",),
        ),
    ),
    listens=(Listen("timesheets", "task.status_changed"),),
    grants=(
        Grant("timesheets", "timesheets.entry", ("SELECT", "INSERT", "UPDATE (approved)")),
        Grant("notifier", "app.teams", ("SELECT (id, name)",)),
    ),
)
"""
"""A package with a service of its own."""


class Packages:
    """A folder of packages that are installed by being there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def install(
        self,
        name: str,
        source: str,
        *,
        version: str = "1.0",
        groups: Mapping[str, Mapping[str, str]] | None = None,
        files: Mapping[str, str] | None = None,
    ) -> None:
        """Installs one.

        Args:
            source: of its only module, which is named as the package is.
            groups: of entry points, names and objects; if not given, `extension` of the module is the extension.
            files: what else it consists of, by path.
        """
        module = name.replace("-", "_")
        offered = {"taskbell.extensions": {module: f"{module}:extension"}} if groups is None else groups
        for path, content in {f"{module}.py": source, **(files or {})}.items():
            (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / path).write_text(content)
        self._describe(name, version, offered)

    def install_project(self, project: Path) -> None:
        """Installs the only package in a folder with a pyproject.toml, such as one of the examples."""
        about = tomllib.loads((project / "pyproject.toml").read_text())["project"]
        module = about["name"].replace("-", "_")
        shutil.copytree(project / module, self.folder / module, ignore=shutil.ignore_patterns("__pycache__"))
        self._describe(about["name"], about["version"], about["entry-points"])

    def _describe(self, name: str, version: str, offered: Mapping[str, Mapping[str, str]]) -> None:
        about = self.folder / f"{name.replace('-', '_')}-{version}.dist-info"
        about.mkdir(parents=True)
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (about / "entry_points.txt").write_text(
            "".join(
                f"[{group}]\n" + "".join(f"{entry} = {value}\n" for entry, value in entries.items())
                for group, entries in offered.items()
            )
        )
        forget()

    def unpack(self, wheel: Path) -> None:
        """Installs a wheel."""
        with zipfile.ZipFile(wheel) as packed:
            packed.extractall(self.folder)
        forget()

    def remove(self, name: str) -> None:
        """Removes an installed wheel, as pip does: the files that its RECORD lists."""
        (about,) = self.folder.glob(f"{name.replace('-', '_')}-*.dist-info")
        for line in (about / "RECORD").read_text().splitlines():
            (self.folder / line.split(",")[0]).unlink()
        about.rmdir()
        forget()

    @property
    def path(self) -> str:
        """PYTHONPATH of a process in which they are installed."""
        return ":".join([str(self.folder), *filter(None, sys.path)])


@contextlib.contextmanager
def packages_in(folder: Path) -> Iterator[Packages]:
    """A folder on this process's path; in the end what was imported from it is forgotten."""
    folder.mkdir(parents=True, exist_ok=True)
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    forget()
    try:
        yield Packages(folder)
    finally:
        sys.path.remove(str(folder))
        for name in set(sys.modules) - before:
            if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(folder)):
                del sys.modules[name]
        forget()


def forget() -> None:
    """What is installed is looked for again."""
    importlib.invalidate_caches()
    for remembered in (extensions.installed, catalogue.catalogue, catalogue._by_contract, catalogue._packages):
        remembered.cache_clear()


def build_wheel(source: Path, into: Path) -> Path:
    """Builds the wheel of a package, by the backend that the package names; nothing is downloaded."""
    before = set(into.glob("*.whl"))
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(into)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = set(into.glob("*.whl")) - before
    return wheel
