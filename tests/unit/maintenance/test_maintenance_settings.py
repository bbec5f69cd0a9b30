"""What the service's settings accept."""

from decimal import Decimal

import pytest

from taskbell.errors import SettingsError
from taskbell.settings import load
from taskbell_maintenance.settings import MaintenanceSettings

URLS = {"DATABASE_URL": "postgresql://u@h/d", "BROKER_URL": "amqp://u@h/"}


def _load(monkeypatch: pytest.MonkeyPatch, **environment: str) -> MaintenanceSettings:
    for name, value in (URLS | environment).items():
        monkeypatch.setenv(name, value)
    return load(MaintenanceSettings)


def test_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = _load(monkeypatch)
    assert (settings.retention_days, settings.cleanup_max_share) == (30, Decimal("0.20"))


def test_a_share_is_read_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _load(monkeypatch, CLEANUP_MAX_SHARE="0.1").cleanup_max_share == Decimal("0.1")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RETENTION_DAYS", "-1"),
        ("RETENTION_DAYS", "36501"),
        ("RETENTION_DAYS", "a month"),
        ("CLEANUP_MAX_SHARE", "20"),
        ("CLEANUP_MAX_SHARE", "-0.1"),
        ("CLEANUP_MAX_SHARE", "NaN"),
    ],
)
def test_nonsense_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        _load(monkeypatch, **{name: value})
