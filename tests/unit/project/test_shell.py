"""Tests read no setting from the shell, and none from a `.env` beside them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.services import services, variables
from tests.support.shell import forget_settings, known_settings

from taskbell.setup.run import SetupSettings

ROOT = Path(__file__).parents[3]
HOSTILE = {
    "DATABASE_URL_FILE": "/nonexistent",
    "MAIL_EXPIRY_HOURS_LLAMAS": "never",
    "LLAMAS_DATABASE_PASSWORD": "hostile",
    "PGHOST": "127.0.0.1",
    "PGPORT": "1",
    "PGOPTIONS": "-c search_path=hostile",
    "PGSSLROOTCERT": "/nonexistent",
    "RABBITMQ_NODENAME": "hostile@nowhere",
    "HTTPS_PROXY": "http://127.0.0.1:1",
    "http_proxy": "http://127.0.0.1:1",
    "SSL_CERT_FILE": "/nonexistent",
    "TASKBELL_DEV_DIRECTORY": "/nonexistent",
    "NOTIFY_SOCKET": "/nonexistent",
    "FORCE_COLOR": "1",
    "COLUMNS": "20",
    "timezone": "Nowhere/Hostile",
}
"""What a shell may hold beside the settings of `.env.example`."""

READ_SETTINGS = ("tests/unit/maintenance/test_maintenance_settings.py", "tests/unit/common/cli/test_run.py")
"""Tests that load settings, in their own process and in others, and clear none themselves."""


def every_variable() -> set[str]:
    """The settings of the installed services and of setup, as their classes have them."""
    classes = [*(service.settings for service in services().values()), SetupSettings]
    return {name for settings in classes for name in variables(settings)}


def test_every_setting_is_forgotten_in_any_case_and_as_a_file() -> None:
    given = {spelled: "hostile" for name in every_variable() for spelled in (name, name.lower(), f"{name}_FILE")}
    environment = given | HOSTILE | {"PATH": "/bin", "HOME": "/", "TEST_DATABASE_URL": "x", "POSTGRES_IMAGE": "y"}
    forget_settings(environment)
    assert environment == {"PATH": "/bin", "HOME": "/", "TEST_DATABASE_URL": "x", "POSTGRES_IMAGE": "y"}


def test_tests_pass_in_a_shell_and_beside_a_dot_env_that_are_full_of_wrong_settings(tmp_path: Path) -> None:
    settings = dict.fromkeys(known_settings(), "hostile")
    (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    arguments = ["-p", "no:cacheprovider", "-c", ROOT / "pyproject.toml", "--rootdir", ROOT]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *arguments, *(ROOT / name for name in READ_SETTINGS)],
        cwd=tmp_path,
        env=os.environ | settings | HOSTILE,
        capture_output=True,
        text=True,
        check=False,
        timeout=250,
    )
    assert done.returncode == pytest.ExitCode.OK, done.stdout + done.stderr
    assert " passed" in done.stdout
