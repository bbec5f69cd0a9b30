"""The notifier's settings: what is refused before anything starts."""

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.support.kinds import FOREIGN, KINDS, WEEKLY, Kinds

from taskbell.errors import SettingsError
from taskbell.settings import doubtful_settings, load
from taskbell_notifier.settings import NotifierSettings
from taskbell_notifier.unsubscribe.tokens import Unsubscriber


def settings(**given: Any) -> NotifierSettings:
    return load(
        NotifierSettings,
        **{
            "database_url": "postgresql://u@h/d",
            "broker_url": "amqp://h/",
            "mail_default_sender": "Bell <bell@example.org>",
        }
        | given,
    )


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"mail_use_tls": True, "mail_use_ssl": True}, "MAIL_USE_TLS and MAIL_USE_SSL"),
        ({"mail_username": "me"}, "MAIL_PASSWORD"),
        ({"mail_default_sender": "nobody"}, "MAIL_DEFAULT_SENDER"),
        ({"report_recipients": "a@example.org, nonsense"}, "REPORT_RECIPIENTS: 'nonsense'"),
        ({"public_url": "https://t.example.org"}, "^PUBLIC_URL is set without SECRET_KEY"),
        ({"public_url": "https://müller.example", "secret_key": "k"}, "PUBLIC_URL must be an ASCII URL"),
        ({"public_url": "https://t.example.org/a b", "secret_key": "k"}, "PUBLIC_URL must be an ASCII URL"),
        ({"unknown_policy": "guess"}, "UNKNOWN_POLICY"),
        ({"mail_expiry_hours_report": 0}, "MAIL_EXPIRY_HOURS_REPORT"),
        ({"task_url_pattern": "https://x/{task}"}, "TASK_URL_PATTERN"),
    ],
)
def test_a_wrong_setting_is_named(given: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        _ = settings(**given).smtp


def test_a_sender_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MAIL_DEFAULT_SENDER", raising=False)
    with pytest.raises(SettingsError, match="MAIL_DEFAULT_SENDER is not set"):
        load(NotifierSettings, database_url="postgresql://u@h/d", broker_url="amqp://h/", _env_file=None)


def test_defaults_are_those_of_the_mail_page() -> None:
    found = settings()
    assert (found.smtp.pool_size, found.smtp.timeout, found.smtp.data_timeout) == (8, 30.0, 600.0)
    assert found.expiry(KINDS) == {
        "reminder": timedelta(hours=12),
        "overdue": timedelta(hours=12),
        "weekly": timedelta(hours=48),
        "report": timedelta(hours=4),
        "test": timedelta(hours=4),
    }
    assert (found.unknown_policy, found.lease) == ("resend", timedelta(minutes=2))


def test_a_former_key_may_have_commas_in_it() -> None:
    token = settings(secret_key="s3cret,with-comma").unsubscriber(KINDS).token(7, WEEKLY)  # type: ignore[union-attr]
    rotated = settings(secret_key="new", secret_key_former="s3cret,with-comma").unsubscriber(KINDS)
    assert rotated is not None
    assert rotated.read(token) == (7, "weekly")


def test_report_recipients_are_split() -> None:
    assert settings(report_recipients=" a@example.org ,b@example.org,").operators == (
        "a@example.org",
        "b@example.org",
    )


@pytest.mark.parametrize("name", ["public_port", "mail_rate_per_second", "mail_username", "app_url"])
def test_an_empty_variable_is_not_set(name: str) -> None:
    assert getattr(settings(**{name: ""}), name) is None


def test_links_made_with_a_former_key_still_work() -> None:
    token = settings(secret_key="old").unsubscriber(KINDS).token(7, WEEKLY)  # type: ignore[union-attr]
    rotated = settings(secret_key="new", secret_key_former="older, old").unsubscriber(KINDS)
    assert rotated is not None
    assert rotated.read(token) == (7, "weekly")
    assert settings(secret_key="new").unsubscriber(KINDS).read(token) is None  # type: ignore[union-attr]
    assert settings().unsubscriber(KINDS) is None


def test_a_packages_kind_has_its_own_expiry_and_its_own_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = Kinds([*KINDS.values(), FOREIGN])
    assert settings().expiry(kinds)["stand_up"] == FOREIGN.expiry
    monkeypatch.setenv("MAIL_EXPIRY_HOURS_STAND_UP", "2")
    assert settings().expiry(kinds)["stand_up"] == timedelta(hours=2)
    monkeypatch.setenv("MAIL_EXPIRY_HOURS_STAND_UP", "soon")
    with pytest.raises(SettingsError, match="MAIL_EXPIRY_HOURS_STAND_UP"):
        settings().expiry(kinds)


PRODUCTION = {
    "taskbell_env": "production",
    "database_url": "postgresql://u:of-our-own@h/d",
    "broker_url": "amqp://u:of-our-own@h/",
}
LONG = "k" * 32


@pytest.mark.parametrize("key", ["a", "secret", "k" * 31, f"   {'k' * 31}    "])
def test_production_refuses_a_short_key_and_says_how_to_make_one(key: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        settings(**PRODUCTION, secret_key=key)
    assert str(refusal.value).startswith("SECRET_KEY is shorter than 32 characters, ")
    assert "secrets.token_urlsafe(32)" in str(refusal.value)
    assert settings(**PRODUCTION, secret_key=LONG).secret_key is not None


@pytest.mark.parametrize("key", [" change-me ", "Change-Me", "TASKBELL"])
def test_production_knows_a_default_secret_however_it_is_spelled(key: str) -> None:
    with pytest.raises(SettingsError, match=r"^SECRET_KEY still has the default secret"):
        settings(**PRODUCTION, secret_key=key)


@pytest.mark.parametrize("blank", ["", " ", "\t\n"])
def test_a_blank_key_is_none(blank: str) -> None:
    assert settings(secret_key=blank).secret_key is None
    with pytest.raises(SettingsError, match="SECRET_KEY"):
        settings(**PRODUCTION, secret_key=blank, public_url="https://t.example.org")


@pytest.mark.parametrize("former", ["change-me", f"{LONG},change-me", f"{LONG}, Change-Me ,x"])
def test_production_refuses_a_default_secret_among_the_former_keys(former: str) -> None:
    with pytest.raises(SettingsError, match=r"^SECRET_KEY_FORMER has the default secret"):
        settings(**PRODUCTION, secret_key=LONG, secret_key_former=former)


def test_a_short_former_key_goes_on_working_with_a_warning() -> None:
    token = settings(secret_key="short").unsubscriber(KINDS).token(7, WEEKLY)  # type: ignore[union-attr]
    rotated = settings(**PRODUCTION, secret_key=LONG, secret_key_former=f"short,{'l' * 32}")
    assert rotated.unsubscriber(KINDS).read(token) is not None  # type: ignore[union-attr]
    (warning,) = rotated.warnings()
    assert warning.startswith("SECRET_KEY_FORMER has a key that is shorter than 32 characters")
    assert list(settings(**PRODUCTION, secret_key=LONG, secret_key_former="l" * 32).warnings()) == []


def test_links_that_a_key_with_blanks_around_it_made_go_on_working() -> None:
    former = Unsubscriber(KINDS, f" {LONG} ").token(7, WEEKLY)
    assert settings(secret_key=f" {LONG} ").unsubscriber(KINDS).read(former) is not None  # type: ignore[union-attr]
    made = settings(secret_key=f" {LONG} ").unsubscriber(KINDS).token(7, WEEKLY)  # type: ignore[union-attr]
    assert settings(secret_key=LONG).unsubscriber(KINDS).read(made) is not None  # type: ignore[union-attr]


def test_a_misspelled_setting_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        monkeypatch.delenv(name)
    (tmp_path / ".env").write_text("MAIL_SUPRESS_SEND=true\nMAIL_DEBUG=1\nMAIL_PASSWORD_FILE=x\nMAIL_QQQQQQQ=1\n")
    for name in ("DATABASE_URI", "DATABASE_HOST", "SECRET_KEYS", "MAIL_EXPIRY_HOURS_WEEKLY", "HOME", "mail_prot"):
        monkeypatch.setenv(name, "x")
    assert sorted(doubtful_settings(NotifierSettings)) == [
        "DATABASE_URI is not a setting, and changes nothing; did you mean 'DATABASE_URL'?",
        "MAIL_PROT is not a setting, and changes nothing; did you mean 'MAIL_PORT'?",
        "MAIL_QQQQQQQ is not a setting, and changes nothing",
        "MAIL_SUPRESS_SEND is not a setting, and changes nothing; did you mean 'MAIL_SUPPRESS_SEND'?",
        "SECRET_KEYS is not a setting, and changes nothing; did you mean 'SECRET_KEY'?",
    ]


def test_secrets_of_a_token_server_come_from_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret").write_text("s3cret\n")
    (tmp_path / "refresh").write_text("r3fresh\n")
    monkeypatch.setenv("MAIL_USERNAME", "bell@example.org")
    monkeypatch.setenv("MAIL_OAUTH2_TOKEN_URL", "https://tokens.example/token")
    monkeypatch.setenv("MAIL_OAUTH2_CLIENT_ID", "bell")
    monkeypatch.setenv("MAIL_OAUTH2_CLIENT_SECRET_FILE", str(tmp_path / "secret"))
    monkeypatch.setenv("MAIL_OAUTH2_REFRESH_TOKEN_FILE", str(tmp_path / "refresh"))
    oauth = settings().smtp.oauth
    assert oauth is not None
    assert (oauth.client_secret, oauth.refresh_token) == ("s3cret", "r3fresh")


def test_without_any_of_its_settings_there_is_no_login_by_token() -> None:
    assert settings(mail_oauth2_client_id="", mail_oauth2_token_file="").smtp.oauth is None


def test_a_token_file_is_not_read_at_the_start() -> None:
    oauth = settings(mail_username="bell@example.org", mail_oauth2_token_file="/not/there/yet").smtp.oauth
    assert oauth is not None
    assert oauth.token_file == "/not/there/yet"
