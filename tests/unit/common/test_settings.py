"""Settings: where they come from, and what is said of mistakes."""

from pathlib import Path

import pytest
from pydantic import Field, SecretStr
from sqlalchemy import make_url
from tests.support.services import variables

from taskbell.errors import SettingsError
from taskbell.settings import BrokerAccess, CommonSettings, HttpUrl, OptionalSecret, OptionalText, load

DATABASE = "postgresql://app:s3cret@db:5432/shop"
BROKER = "amqp://app:s3cret@mq:5672/"


class Service(CommonSettings):
    """A service's settings, with one of each kind."""

    secret_key: OptionalSecret = Field(default=None, description="Signs links")
    app_url: HttpUrl = Field(default=None, description="Where the app is")
    note: OptionalText = Field(default=None, description="A note")
    retention_days: int = Field(default=30, ge=0, description="Days until completed tasks are archived")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """Nothing is set but the two URLs, and there is no `.env`."""
    monkeypatch.chdir(tmp_path)
    for name in variables(Service):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(f"{name}_FILE", raising=False)
    monkeypatch.setenv("DATABASE_URL", DATABASE)
    monkeypatch.setenv("BROKER_URL", BROKER)
    return monkeypatch


def mistakes() -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(Service)
    return str(caught.value).splitlines()


def database_url() -> str:
    return load(Service).database_url.get_secret_value()


def test_two_urls_are_enough() -> None:
    settings = load(Service)
    assert settings.broker_url.get_secret_value() == BROKER
    assert (settings.timezone, settings.app_schema, settings.http_port) == ("UTC", "public", 0)
    assert settings.secret_key is None


def test_every_mistake_is_named_at_once_with_its_variable_and_what_to_do(environment: pytest.MonkeyPatch) -> None:
    environment.delenv("DATABASE_URL")
    for name, value in {
        "BROKER_URL": "mq.example.org",
        "TIMEZONE": "Berlin",
        "HTTP_PORT": "70000",
        "RETENTION_DAYS": "many",
        "APP_URL": "shop.example.org",
        "LOG_LEVEL": "loud",
        "SECRET_KEY_FILE": "/nonexistent/key",
        "APP_SCHEMA": "x" * 64,
    }.items():
        environment.setenv(name, value)
    told = {line.partition(" ")[0].rstrip(":"): line for line in mistakes()}
    assert told == {
        "DATABASE_URL": "DATABASE_URL is not set: PostgreSQL, postgresql://user:password@host:5432/database",
        "BROKER_URL": "BROKER_URL: must look like amqp://user:password@host:5672/"
        " (a virtual host follows the last slash); in a password, write @ : / ? # % as %40 %3A %2F %3F %23 %25",
        "TIMEZONE": "TIMEZONE: 'Berlin' is not an IANA time zone; did you mean 'Europe/Berlin'?",
        "HTTP_PORT": (
            "HTTP_PORT: Input should be less than or equal to 65535 (Port for them; 0 takes any free one and logs it)"
        ),
        "RETENTION_DAYS": "RETENTION_DAYS: Input should be a valid integer, unable to parse string as an integer"
        " (Days until completed tasks are archived)",
        "APP_URL": "APP_URL: must look like https://host",
        "LOG_LEVEL": "LOG_LEVEL: Input should be 'DEBUG', 'INFO', 'WARNING' or 'ERROR'"
        " (Least severe level that is logged)",
        "SECRET_KEY_FILE": "SECRET_KEY_FILE names '/nonexistent/key', which cannot be read: No such file or directory",
        "APP_SCHEMA": "APP_SCHEMA: String should have at most 63 characters (Schema of the web app's tables)",
    }


def test_no_mistake_repeats_a_secret(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("DATABASE_URL", "mysql://app:hush-hush@db/shop")
    environment.setenv("BROKER_URL", "amqp://app:hush/hush@mq/")
    assert "hush" not in "\n".join(mistakes())


def test_nor_does_anything_that_prints_settings(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("SECRET_KEY", "hush-hush")
    assert "hush" not in repr(load(Service))
    assert "s3cret" not in repr(load(Service))


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("postgres://app:pw@db/shop", "postgresql+asyncpg://app:pw@db/shop"),
        ("postgresql+asyncpg://app:pw@db:6432/shop", "postgresql+asyncpg://app:pw@db:6432/shop"),
        ("postgresql://app:pw@db/shop?sslmode=require", "postgresql+asyncpg://app:pw@db/shop?ssl=require"),
        ("postgres://app:pw@db/shop?sslmode=verify-full&application_name=x&connect_timeout=3&channel_binding=require",
         "postgresql+asyncpg://app:pw@db/shop?ssl=verify-full"),
        ("postgresql://app@[::1]:5432/shop", "postgresql+asyncpg://app@[::1]:5432/shop"),
        ("postgresql://app:pw@/shop?host=/var/run/postgresql",
         "postgresql+asyncpg://app:pw@/shop?host=%2Fvar%2Frun%2Fpostgresql"),
        ("postgresql://app:p@ss@db/shop", "postgresql+asyncpg://app:p%40ss@db/shop"),
        ("postgresql://app:p%40s%25@db/shop", "postgresql+asyncpg://app:p%40s%25@db/shop"),
    ],
)  # fmt: skip
def test_usual_database_urls_are_understood(environment: pytest.MonkeyPatch, given: str, meant: str) -> None:
    environment.setenv("DATABASE_URL", given)
    assert database_url() == meant


def test_a_password_arrives_as_it_was_meant(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("DATABASE_URL", "postgresql://app:p%40s%25s%2Fw@db/shop")
    assert make_url(database_url()).password == "p@s%s/w"


@pytest.mark.parametrize(
    "given",
    [
        *("db:5432/shop", "http://db/shop", "postgresql:///shop", "postgresql://", "shop"),
        *("postgresql://app:pa/ss@db/shop", "postgresql://app:pa#ss@db/shop", "postgresql://app:pw@db:port/shop"),
        *("postgresql://app:pw@db:70000/shop", "postgresql://app:pw@db:0/shop"),
    ],
)
def test_what_is_no_database_url_is_told_with_an_example(environment: pytest.MonkeyPatch, given: str) -> None:
    environment.setenv("DATABASE_URL", given)
    (mistake,) = mistakes()
    assert mistake.startswith("DATABASE_URL: must look like postgresql://user:password@host:5432/name; in a password")


@pytest.mark.parametrize(
    ("query", "mistake"),
    [
        ("sslmode=maybe", "sslmode must be one of disable, allow, prefer, require, verify-ca, verify-full"),
        ("sslrootcert=/ca.pem", "parameter sslrootcert is not supported: take it out"),
    ],
)
def test_parameters_that_cannot_be_kept_are_told_before_anything_starts(
    environment: pytest.MonkeyPatch, query: str, mistake: str
) -> None:
    environment.setenv("DATABASE_URL", f"{DATABASE}?{query}")
    (told,) = mistakes()
    assert told.startswith(f"DATABASE_URL: {mistake}")


def test_a_secret_may_come_from_a_file(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "url").write_text(f"{DATABASE}\n")
    environment.delenv("DATABASE_URL")
    environment.setenv("DATABASE_URL_FILE", str(tmp_path / "url"))
    assert database_url() == "postgresql+asyncpg://app:s3cret@db:5432/shop"


def test_the_environment_wins_over_the_file_and_the_file_over_dot_env(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text(f"SECRET_KEY=dot-env\nSECRET_KEY_FILE={tmp_path / 'key'}\nNOTE=dot-env\n")
    (tmp_path / "key").write_text("file")
    settings = load(Service)
    assert (settings.secret_key, settings.note) == (SecretStr("file"), "dot-env")
    environment.setenv("SECRET_KEY", "environment")
    environment.setenv("NOTE", "environment")
    settings = load(Service)
    assert (settings.secret_key, settings.note) == (SecretStr("environment"), "environment")


def test_a_file_that_is_no_text_is_a_mistake_like_any_other(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"\xff\xfe")
    environment.setenv("SECRET_KEY_FILE", str(tmp_path / "key"))
    environment.setenv("TIMEZONE", "Nowhere")
    assert [line.partition(":")[0] for line in mistakes()] == [
        "TIMEZONE",
        f"SECRET_KEY_FILE names '{tmp_path / 'key'}', which cannot be read",
    ]


def test_a_dot_env_that_is_no_text_is_told_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"NOTE=\xff\xfe\n")
    (mistake,) = mistakes()
    assert mistake.startswith(".env cannot be read: ")


def test_empty_means_not_set(environment: pytest.MonkeyPatch) -> None:
    for name in ("SECRET_KEY", "APP_URL", "NOTE", "TIMEZONE", "RETENTION_DAYS", "BROKER_MANAGEMENT_URL"):
        environment.setenv(name, "")
    settings = load(Service)
    assert (settings.secret_key, settings.app_url, settings.note) == (None, None, None)
    assert (settings.timezone, settings.retention_days) == ("UTC", 30)


def test_an_address_has_no_slash_at_its_end(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("APP_URL", "https://shop.example.org/")
    assert load(Service).app_url == "https://shop.example.org"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "postgresql://app:taskbell@db/shop"),
        ("BROKER_URL", "amqp://guest:guest@mq/"),
        ("BROKER_URL", "amqp://app:gue%73t@mq/"),
        ("BROKER_URL", "amqp://mq/"),
        ("BROKER_MANAGEMENT_URL", "http://app:change-me@mq:15672"),
        ("SECRET_KEY", "change-me"),
    ],
)
def test_production_refuses_the_secrets_that_everybody_knows(
    environment: pytest.MonkeyPatch, name: str, value: str
) -> None:
    environment.setenv(name, value)
    load(Service)
    environment.setenv("TASKBELL_ENV", "production")
    words = f"{name} still has the default secret of .env.example: TASKBELL_ENV=production refuses it, set another one"
    assert mistakes() == [words]


def test_production_names_all_of_them_beside_other_mistakes(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("TASKBELL_ENV", "production")
    environment.setenv("DATABASE_URL", "postgresql://postgres:postgres@db/shop")
    environment.setenv("SECRET_KEY", "change-me")
    environment.setenv("TIMEZONE", "Nowhere")
    assert {line.split()[0] for line in mistakes()} == {"DATABASE_URL", "TIMEZONE:", "SECRET_KEY"}


def test_production_takes_secrets_of_ones_own(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("TASKBELL_ENV", "production")
    environment.setenv("SECRET_KEY", "9c1185a5c5e9fc54")
    assert load(Service).taskbell_env == "production"


def test_a_command_that_only_publishes_needs_only_the_broker(environment: pytest.MonkeyPatch) -> None:
    environment.delenv("DATABASE_URL")
    assert load(BrokerAccess).broker_url.get_secret_value() == BROKER
