"""The packages are released together, under one version that stands in several files."""

import re
import tomllib
from pathlib import Path

import taskbell

ROOT = Path(__file__).parents[3]
PACKAGES = [tomllib.loads(file.read_text())["project"] for file in ROOT.glob("[ls]*/*/pyproject.toml")]

OLDEST, NEWEST = (3, 11), (3, 14)


def test_one_version_stands_everywhere() -> None:
    (image,) = re.findall(r"^ARG VERSION=(.+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert len(PACKAGES) >= 5
    assert {package["name"]: package["version"] for package in PACKAGES} == {
        package["name"]: taskbell.__version__ for package in PACKAGES
    }
    assert image == taskbell.__version__


def test_every_package_takes_the_pythons_that_are_tested() -> None:
    (major, first), (_, last) = OLDEST, NEWEST
    wanted = [f"Programming Language :: Python :: {major}.{minor}" for minor in range(first, last + 1)]
    for package in PACKAGES:
        assert package["requires-python"] == f">={major}.{first},<{major}.{last + 1}", package["name"]
        declared = [line for line in package["classifiers"] if re.search(r":: \d\.\d+$", line)]
        assert declared == wanted, package["name"]
