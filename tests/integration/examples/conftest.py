"""The wheels of the packages in examples/, and what the services said when a test has failed."""

from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.integration.examples.installed import EXAMPLES, Examples
from tests.support.packages import Packages, build_wheel


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """The wheel of each example, by its folder's name."""
    into = tmp_path_factory.mktemp("wheels")
    return {name: build_wheel(EXAMPLES / name, into) for name in ("unassigned", "assigned")}


@pytest.fixture(scope="module")
def site(wheels: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Packages:
    """A folder in which all examples are installed; its path makes them so for a process."""
    site = Packages(tmp_path_factory.mktemp("site"))
    for wheel in wheels.values():
        site.unpack(wheel)
    return site


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    """Shows what the services said when a test has failed."""
    result = yield
    report = result.get_result()
    examples = getattr(item, "funcargs", {}).get("examples")
    if report.failed and isinstance(examples, Examples):
        installation = examples.installation
        report.sections += [(f"the {name}'s log", installation.log(name)) for name in sorted(installation.running)]
