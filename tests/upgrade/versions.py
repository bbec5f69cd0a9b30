"""The version before this one and this one: where each is imported from, and its command `taskbell`.

Both run on the Python and the third-party packages that the tests run on. Each finds its own packages of Taskbell,
because PYTHONPATH comes before what is installed.
"""

import asyncio
import json
import os
import sys
import zipfile
from asyncio.subprocess import PIPE
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.support.command import Done, taskbell

WHEELS = Path(__file__).parent / "former"
PACKAGES = ("taskbell", "taskbell_scheduler", "taskbell_notifier", "taskbell_maintenance")

_LOOK = """
import importlib, json, sys
from importlib.metadata import entry_points

packages = sys.argv[1:]
modules = [*packages, "taskbell.cli", *(f"{package}.app" for package in packages[1:])]
files = {name: importlib.import_module(name).__file__ for name in modules}
offers = {
    f"{entry.group}: {entry.name}": str(entry.dist.locate_file(""))
    for group in ("taskbell.services", "taskbell.commands")
    for entry in entry_points(group=group)
    if entry.module.partition(".")[0] in packages
}
print(json.dumps({"files": files, "offers": offers}))
"""


@dataclass(frozen=True)
class Version:
    """One version of Taskbell."""

    name: str
    path: str
    """Folders for PYTHONPATH, in their order."""

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs in its environment to be of this version."""
        return {"PYTHONPATH": self.path}

    async def taskbell(self, *arguments: str, **settings: str) -> Done:
        """Runs a command, which must succeed."""
        done = await taskbell(*arguments, **settings, **self.environment)
        assert done.status == 0, f"{self.name} `taskbell {' '.join(arguments)}`:\n{done.out}{done.err}"
        return done

    async def imports(self) -> dict[str, dict[str, str]]:
        """The file of each module that a process starts from, and the folder of the package of each entry point.

        Fails if one of them cannot be imported: a third-party package that this version needs may be missing.
        """
        command = (sys.executable, "-c", _LOOK, *PACKAGES)
        environment = os.environ | self.environment
        process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE, env=environment, cwd="/")
        out, err = await process.communicate()
        assert process.returncode == 0, f"{self.name} version cannot be imported:\n{err.decode()}"
        found: Any = json.loads(out)
        return dict(found)


def former(folder: Path) -> Version:
    """The version of the wheels, unpacked into that folder."""
    wheels = sorted(WHEELS.glob("*.whl"))
    assert len(wheels) == len(PACKAGES), f"{WHEELS} must hold one wheel for each of {', '.join(PACKAGES)}"
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as packed:
            packed.extractall(folder)
    return Version("the former", str(folder))


def present() -> Version:
    """The version that this process imports."""
    return Version("the present", os.pathsep.join(dict.fromkeys(str(_folder_of(package)) for package in PACKAGES)))


def _folder_of(package: str) -> Path:
    spec = find_spec(package)
    assert spec is not None, f"{package} is not installed"
    assert spec.origin is not None, f"{package} has no file"
    return Path(spec.origin).parents[1]
