"""What tests of this folder can ask for, besides what every test can (tests/conftest.py).

former      the version before this one, from its wheels in tests/upgrade/former; nothing is downloaded
present     the version that is being tested
"""

import pytest

from tests.upgrade import versions
from tests.upgrade.versions import Version


@pytest.fixture(scope="session")
def former(tmp_path_factory: pytest.TempPathFactory) -> Version:
    return versions.former(tmp_path_factory.mktemp("former"))


@pytest.fixture(scope="session")
def present() -> Version:
    return versions.present()
