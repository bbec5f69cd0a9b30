"""The tests of this folder really run two versions: each process imports one of them whole."""

import os
from pathlib import Path

from tests.upgrade.versions import PACKAGES, Version


async def test_every_module_and_entry_point_of_the_former_version_is_of_its_wheels(former: Version) -> None:
    found = await former.imports()
    assert {Path(file).is_relative_to(former.path) for file in found["files"].values()} == {True}, found
    assert set(found["offers"].values()) == {former.path}, found
    assert {name for name in found["offers"] if name.startswith("taskbell.services")} == {
        f"taskbell.services: {package.removeprefix('taskbell_')}" for package in PACKAGES[1:]
    }


async def test_no_module_of_the_present_version_is_of_the_former_wheels(former: Version, present: Version) -> None:
    found = await present.imports()
    folders = [Path(folder) for folder in present.path.split(os.pathsep)]
    for file in map(Path, found["files"].values()):
        assert any(file.is_relative_to(folder) for folder in folders), found
        assert not file.is_relative_to(former.path), found
