"""`.env.example` names every setting of every service, of setup and of the compose file, as it is."""

import re
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from pydantic.fields import FieldInfo
from tests.support.services import services

from taskbell.errors import SettingsError
from taskbell.settings import CommonSettings, load
from taskbell.setup.run import SetupSettings

ROOT = Path(__file__).parents[4]
EXAMPLE = ROOT / ".env.example"
OF_A_KIND = "MAIL_EXPIRY_HOURS_"
"""Every kind of mail has a variable that begins so; those that the file and compose show are examples of them."""
OWN_DEFAULTS = {"MAIL_SERVER": "mailpit", "MAIL_PORT": "1025", "MAIL_DEFAULT_SENDER": "Taskbell <taskbell@example.org>"}
"""What the compose file gives where a service alone would have another default, or none."""


class Line(NamedTuple):
    """A variable as the file shows it."""

    comment: str
    is_set: bool
    value: str


def shown() -> dict[str, Line]:
    lines = EXAMPLE.read_text().splitlines()
    found = {}
    for above, line in pairwise(lines):
        if match := re.fullmatch(r"(#?)([A-Z][A-Z0-9_]*)=(.*)", line):
            assert match[2] not in found, f"{match[2]} is there twice"
            found[match[2]] = Line(above.removeprefix("# "), not match[1], match[3])
    return found


def all_settings() -> list[type[CommonSettings]]:
    return [*(service.settings for service in services().values()), SetupSettings]


def expected() -> dict[str, FieldInfo]:
    return {name.upper(): field for settings in all_settings() for name, field in settings.model_fields.items()}


def as_written(default: object) -> str:
    match default:
        case None:
            return ""
        case bool():
            return str(default).lower()
        case float() if default.is_integer():
            return str(int(default))
        case float() | int() | Decimal() | str():
            return str(default)
    raise AssertionError(default)


def test_all_three_services_are_asked() -> None:
    assert set(services()) == {"scheduler", "notifier", "maintenance"}


def composed() -> dict[str, str]:
    """The variables of docker-compose.yml with their defaults, each the same wherever it stands."""
    found: dict[str, str] = {}
    for name, default in re.findall(r"\$\{([A-Z0-9_]+):-([^}]*)\}", (ROOT / "docker-compose.yml").read_text()):
        assert found.setdefault(name, default) == default, name
    return found


def test_it_names_every_variable_and_no_other() -> None:
    named, wanted = set(shown()), set(expected()) | set(composed())
    assert named - wanted == set()
    assert {name for name in wanted - named if not name.startswith(OF_A_KIND)} == set()
    assert any(name.startswith(OF_A_KIND) for name in named)


def test_the_compose_file_has_the_same_defaults() -> None:
    lines = shown()
    for name, default in composed().items():
        if name in expected():
            is_password = name.endswith(("_DATABASE_PASSWORD", "_BROKER_PASSWORD"))
            own = "change-me" if is_password else OWN_DEFAULTS.get(name, lines[name].value)
            assert default in ("", own), name
        else:
            assert (lines[name].is_set, lines[name].value) == (False, default), name


@pytest.mark.parametrize("name", ["scheduler", "notifier", "maintenance"])
def test_the_compose_file_passes_on_every_setting_of_a_service(name: str) -> None:
    stack = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    given = set(stack["services"][name]["environment"])
    # What the image says itself, and what only setup uses.
    elsewhere = {"HTTP_HOST", "HTTP_PORT", "BROKER_MANAGEMENT_URL"}
    wanted = {field.upper() for field in services()[name].settings.model_fields} - elsewhere
    assert given - wanted == set()
    assert {field for field in wanted - given if not field.startswith(OF_A_KIND)} == set()


def test_every_variable_has_its_description_and_its_default() -> None:
    lines = shown()
    for name, field in expected().items():
        if name not in lines and name.startswith(OF_A_KIND):
            continue
        assert lines[name].comment == field.description, name
        if not field.is_required():
            assert (lines[name].is_set, lines[name].value) == (False, as_written(field.default)), name


def test_those_that_must_be_set_are_set_and_no_others() -> None:
    required = {name for name, field in expected().items() if field.is_required()}
    assert {name for name, line in shown().items() if line.is_set} == required


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The file as `.env` of the current folder, with nothing else set."""
    for name in expected():
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(f"{name}_FILE", raising=False)
    monkeypatch.chdir(tmp_path)
    copy = tmp_path / ".env"
    copy.write_bytes(EXAMPLE.read_bytes())
    return copy


@pytest.mark.usefixtures("copied")
def test_copied_as_it_is_it_works() -> None:
    for settings in all_settings():
        assert load(settings).taskbell_env == "development"


def test_with_everything_in_it_uncommented_it_works_just_the_same(copied: Path) -> None:
    as_copied = [load(settings) for settings in all_settings()]
    copied.write_text(re.sub(r"^#(?=[A-Z0-9_]+=)", "", copied.read_text(), flags=re.MULTILINE))
    assert [load(settings) for settings in all_settings()] == as_copied


@pytest.mark.usefixtures("copied")
def test_production_refuses_its_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKBELL_ENV", "production")
    for settings in all_settings():
        with pytest.raises(SettingsError, match="still has the default secret"):
            load(settings)
