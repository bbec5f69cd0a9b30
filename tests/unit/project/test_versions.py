"""The packages are released together, under one version that stands in several files."""

import re
import tomllib
from pathlib import Path

import taskbell

ROOT = Path(__file__).parents[3]
PACKAGES = [tomllib.loads(file.read_text())["project"] for file in ROOT.glob("[ls]*/*/pyproject.toml")]


def test_one_version_stands_everywhere() -> None:
    (image,) = re.findall(r"^ARG VERSION=(.+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert len(PACKAGES) == 5
    assert {package["name"]: package["version"] for package in PACKAGES} == {
        package["name"]: taskbell.__version__ for package in PACKAGES
    }
    assert image == taskbell.__version__
