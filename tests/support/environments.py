"""A virtual environment of a test's own, into which pip installs wheels; nothing is downloaded.

Third-party packages are those that the tests run on. The checkout's editable packages are not among them.
"""

import os
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Mapping
from pathlib import Path

NO_SITE = {"PYTHONPATH": "", "PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


class Environment:
    """The environment in that folder, which is made for it."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder, with_pip=False)
        self.python = str(folder / "bin" / "python")
        found = self.run("-c", "import sysconfig; print(sysconfig.get_path('purelib'))")
        self.packages = Path(found.strip())
        others = folder / "third-party"
        others.mkdir()
        for entry in Path(sysconfig.get_path("purelib")).iterdir():
            if not entry.name.startswith(("taskbell", "_editable")):
                (others / entry.name).symlink_to(entry)
        (self.packages / "third-party.pth").write_text(f"{others}\n")

    def install(self, wheels: Path, *names: str) -> None:
        """Installs these packages from that folder of wheels."""
        self._pip("install", "--quiet", "--no-index", "--no-deps", "--find-links", str(wheels), *names)

    def uninstall(self, *names: str) -> None:
        """Removes these packages."""
        self._pip("uninstall", "--quiet", "--yes", *names)

    def files(self, *modules: str) -> Mapping[str, Path]:
        """The file that each of these modules is imported from."""
        code = "import importlib, sys\nfor name in sys.argv[1:]: print(importlib.import_module(name).__file__)"
        return dict(zip(modules, map(Path, self.run("-c", code, *modules).splitlines()), strict=True))

    def run(self, *arguments: str) -> str:
        """What its Python prints, which must succeed."""
        return _output(self.python, *arguments)

    def _pip(self, *arguments: str) -> None:
        _output(sys.executable, "-m", "pip", "--python", self.python, *arguments)


def _output(*command: str) -> str:
    environment = os.environ | NO_SITE
    done = subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
