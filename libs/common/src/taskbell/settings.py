"""Settings that every service has. They come from the environment and `.env`, and each also from a file by `NAME_FILE`.

Each service subclasses `CommonSettings` in its own `settings.py`. `load()` reports all mistakes in one SettingsError,
each with its variable and the remedy.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from pydantic_settings import SettingsError as SourceError

from taskbell.errors import SettingsError
from taskbell.spelling import did_you_mean
from taskbell.zones import zone_named

DEFAULT_SECRETS = frozenset({"change-me", "taskbell", "guest", "postgres"})
"""The secrets of `.env.example`; refused if TASKBELL_ENV is production."""


_OF_WEB_APPS = frozenset(
    {
        *("MAIL_DEBUG", "MAIL_MAX_EMAILS", "MAIL_ASCII_ATTACHMENTS", "MAIL_BACKEND", "MAIL_SEND_OPTIONS"),
        *("MAIL_SSL_CERTFILE", "MAIL_SSL_KEYFILE", "MAIL_USE_LOCALTIME", "MAIL_FILE_PATH"),
    }
)
"""Variables of Flask-Mail and Flask-Mailman that are none of ours."""

_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_PASSED_ON = ("ssl", "host", "port", "target_session_attrs")
# We set the first two ourselves; asyncpg does not know the third.
_LEFT_OUT = ("application_name", "connect_timeout", "channel_binding")


def _zone(name: str) -> str:
    return zone_named(name).key


def _server(url: str, schemes: set[str], example: str) -> SplitResult:
    """The parts of a server's URL. Raises ValueError, which says what one looks like, if it is not one."""
    try:
        parts = urlsplit(url)
        right = parts.scheme in schemes and (parts.hostname or "host=" in parts.query) and parts.port != 0
    except ValueError:  # the port is not a number: most often the password contains a character that ends it
        right = False
    if not right:
        msg = f"must look like {example}; in a password, write @ : / ? # % as %40 %3A %2F %3F %23 %25"
        raise ValueError(msg)
    return parts


def _database_url(url: str) -> str:
    parts = _server(url, {"postgresql", "postgres", "postgresql+asyncpg"}, "postgresql://user:password@host:5432/name")
    query: dict[str, str] = {}
    for key, value in parse_qsl(parts.query):
        name = {"sslmode": "ssl"}.get(key, key)
        if name == "ssl" and value not in _SSL_MODES:
            msg = f"sslmode must be one of {', '.join(_SSL_MODES)}"
            raise ValueError(msg)
        if name in _PASSED_ON:
            query[name] = value
        elif name not in _LEFT_OUT:
            msg = f"parameter {key} is not supported: take it out (for certificates, set PGSSLROOTCERT)"
            raise ValueError(msg)
    return urlunsplit(("postgresql+asyncpg", _login(parts), parts.path, urlencode(query), ""))


def _login(parts: SplitResult) -> str:
    """User, password, host and port, with user and password percent-encoded."""
    host = parts.netloc.rpartition("@")[2]
    if parts.username is None:
        return host
    words = [quote(unquote(word), safe="") for word in (parts.username, parts.password) if word is not None]
    return f"{':'.join(words)}@{host}"


def _broker_url(url: str) -> str:
    _server(url, {"amqp", "amqps"}, "amqp://user:password@host:5672/ (a virtual host follows the last slash)")
    return url


def _management_url(secret: SecretStr | None) -> SecretStr | None:
    if secret is not None:
        _server(secret.get_secret_value(), {"http", "https"}, "http://user:password@host:15672")
    return secret


def _http_url(url: str | None) -> str | None:
    if url is None or url == "":
        return None
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        msg = "must look like https://host"
        raise ValueError(msg)
    return url.rstrip("/")


def _proxies(text: str) -> str:
    for part in filter(None, map(str.strip, text.split(","))):
        try:
            ip_network(part, strict=False)
        except ValueError:
            msg = f"{part!r} is not an address or a network such as 10.0.0.0/8"
            raise ValueError(msg) from None
    return text


def _empty_is_none(value: object) -> object:
    return None if isinstance(value, str) and not value.strip() else value


def _secret(check: Any) -> AfterValidator:
    return AfterValidator(lambda secret: SecretStr(check(secret.get_secret_value())))


Zone = Annotated[str, AfterValidator(_zone)]
"""An IANA zone's name."""

HttpUrl = Annotated[str | None, AfterValidator(_http_url)]
"""An http(s) address without a slash at its end, or None."""

Proxies = Annotated[str, AfterValidator(_proxies)]
"""IP addresses and networks, separated by commas."""

DatabaseUrl = Annotated[SecretStr, _secret(_database_url)]
"""A PostgreSQL URL as libpq takes it, translated for SQLAlchemy with asyncpg."""

BrokerUrl = Annotated[SecretStr, _secret(_broker_url)]
"""An AMQP 0-9-1 URL."""

ManagementUrl = Annotated[SecretStr | None, BeforeValidator(_empty_is_none), AfterValidator(_management_url)]
"""An address of RabbitMQ's management API, or None."""

OptionalText = Annotated[str | None, BeforeValidator(_empty_is_none)]
"""A text; empty means not set, as compose files write it."""

OptionalSecret = Annotated[SecretStr | None, BeforeValidator(_empty_is_none)]
"""A secret; empty means not set."""


@dataclass(frozen=True)
class _Mistake:
    """Takes the place of a field's value, so that this mistake is reported together with all others."""

    words: str


class _FileSecrets(PydanticBaseSettingsSource):
    """Reads `NAME` from the file that `NAME_FILE` names (environment first, then `.env`)."""

    def __init__(self, settings_cls: type[BaseSettings], sources: tuple[PydanticBaseSettingsSource, ...]) -> None:
        super().__init__(settings_cls)
        self._variables: dict[str, str | None] = {}
        for source in reversed(sources):
            if isinstance(source, (EnvSettingsSource, DotEnvSettingsSource)):
                self._variables.update({key.lower(): value for key, value in source.env_vars.items()})

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        path = self._variables.get(f"{field_name}_file")
        if not path:
            return None, field_name, False
        try:
            return Path(path).read_text(encoding="utf-8").strip(), field_name, False
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            return _Mistake(f"{field_name.upper()}_FILE names {path!r}, which cannot be read: {why}"), field_name, False

    def __call__(self) -> dict[str, Any]:
        found = {}
        for name, field in self.settings_cls.model_fields.items():
            value, _, _ = self.get_field_value(field, name)
            if value is not None:
                found[name] = value
        return found


class Environment(BaseSettings):
    """Settings read from the environment, from files that it names, and from `.env`."""

    model_config = SettingsConfigDict(
        env_file=".env", env_file_encoding="utf-8", extra="ignore", frozen=True, env_ignore_empty=True
    )

    @classmethod
    def known_names(cls) -> Collection[str]:
        """The variables that may be set, in capitals."""
        return [name.upper() for name in cls.model_fields]

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """NAME in the environment wins over NAME_FILE, and both over `.env`."""
        files = _FileSecrets(settings_cls, (env_settings, dotenv_settings))
        return init_settings, env_settings, files, dotenv_settings


class DatabaseAccess(Environment):
    """The settings of whatever uses PostgreSQL."""

    database_url: DatabaseUrl = Field(description="PostgreSQL, postgresql://user:password@host:5432/database")
    app_schema: str = Field(default="public", min_length=1, max_length=63, description="Schema of the web app's tables")
    database_pool_size: int = Field(default=10, ge=2, le=200, description="Connections of each service to PostgreSQL")
    database_prepared_statements: bool = Field(
        default=True, description="Set it to false behind PgBouncer in transaction mode"
    )


class BrokerAccess(Environment):
    """The settings of whatever uses RabbitMQ."""

    broker_url: BrokerUrl = Field(description="RabbitMQ, amqp://user:password@host:5672/")
    broker_management_url: ManagementUrl = Field(
        default=None, description="RabbitMQ's management API, http://user:password@host:15672"
    )


class CommonSettings(BrokerAccess, DatabaseAccess):
    """The settings that every service has."""

    timezone: Zone = Field(default="UTC", description="Time zone of people and schedules that have none of their own")
    http_host: str = Field(default="127.0.0.1", description="Address on which /livez, /readyz and /metrics are served")
    http_port: int = Field(default=0, ge=0, le=65535, description="Port for them; 0 takes any free one and logs it")
    trusted_proxies: Proxies = Field(
        default="",
        description="Addresses and networks of proxies whose X-Forwarded-For is believed, separated by commas",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="Least severe level that is logged"
    )
    log_format: Literal["auto", "json", "console"] = Field(
        default="auto", description="auto: console on a terminal, else json"
    )
    taskbell_env: Literal["development", "production"] = Field(
        default="development", description="production: do not start with the default secrets"
    )

    def warnings(self) -> Iterator[str]:
        """Sentences about values that are taken but may not be meant."""
        yield from ()

    @classmethod
    def weakness(cls, name: str, secret: str) -> str | None:
        """Why production refuses a secret, as the words after its setting's name; None: it takes it."""
        if "://" in secret:
            parts = urlsplit(secret)
            # Without a password, AMQP clients take guest's.
            secret = unquote(parts.password or ("guest" if parts.scheme.startswith("amqp") else ""))
        if not is_default(secret):
            return None
        return "still has the default secret of .env.example: TASKBELL_ENV=production refuses it, set another one"

    @model_validator(mode="before")
    @classmethod
    def _no_weak_secrets_in_production(cls, given: dict[str, Any]) -> dict[str, Any]:
        if given.get("taskbell_env") != "production":
            return given
        mistakes: dict[str, Any] = {}
        for name, field in cls.model_fields.items():
            value = given.get(name, field.default)
            secret = value.get_secret_value() if isinstance(value, SecretStr) else value
            is_secret = SecretStr in (field.annotation, *get_args(field.annotation))
            if is_secret and isinstance(secret, str) and (words := cls.weakness(name, secret)):
                mistakes[name] = _Mistake(f"{name.upper()} {words}")
        return given | mistakes


def is_default(secret: str) -> bool:
    """Whether everybody knows this secret, however it is spelled."""
    return secret.strip().casefold() in DEFAULT_SECRETS


def doubtful_settings(settings: type[Environment]) -> Iterator[str]:
    """Sentences about variables that look like settings of that class, and are none: most often misspelled.

    Every unknown MAIL_ variable counts, if that class has MAIL_ settings, and any other that is near to one of its
    settings. The variables of Flask-Mail and Flask-Mailman, which a web app may have beside us, are known.
    """
    known = {name for field in settings.known_names() for name in (field, f"{field}_FILE")}
    sources = (
        EnvSettingsSource(settings),
        DotEnvSettingsSource(settings, env_file=settings.model_config.get("env_file")),
    )
    given = dict.fromkeys(name.upper() for source in sources for name in source.env_vars)
    prefixes = {name.partition("_")[0] for name in known}
    for name in given:
        prefix = name.partition("_")[0]
        if name in known or name in _OF_WEB_APPS or prefix not in prefixes:
            continue
        # A web app may well have a DATABASE_HOST, so others count only if they are as good as ours.
        if prefix == "MAIL" or get_close_matches(name, known, cutoff=0.85):
            yield f"{name} is not a setting, and changes nothing{did_you_mean(name, known)}"


Settings = TypeVar("Settings", bound=CommonSettings)
Wanted = TypeVar("Wanted", bound=Environment)


def load(settings: type[Wanted], **given: Any) -> Wanted:
    """Reads the settings of one service, or of one command.

    Raises:
        SettingsError: holds every mistake, each with its variable and the remedy, and never a secret.
    """
    try:
        return settings(**given)
    except ValidationError as error:
        raise SettingsError("\n".join(_reported(settings, error))) from None
    except SourceError as error:
        raise SettingsError(str(error).splitlines()[0]) from None
    except (OSError, UnicodeDecodeError) as error:
        msg = f".env cannot be read: {error}"
        raise SettingsError(msg) from None


def _reported(settings: type[Environment], error: ValidationError) -> Iterator[str]:
    """Each mistake as one line."""
    for mistake in error.errors(include_url=False, include_context=False):
        name = str(mistake["loc"][0]).upper() if mistake["loc"] else ""
        field = settings.model_fields.get(name.lower())
        meaning = field.description if field is not None else ""
        if isinstance(mistake["input"], _Mistake):
            yield mistake["input"].words
        elif mistake["type"] == "missing":
            yield f"{name} is not set: {meaning}"
        elif mistake["type"] == "value_error":
            words = mistake["msg"].removeprefix("Value error, ")
            yield f"{name}: {words}" if name else words  # a check of several settings names them itself
        else:
            yield f"{name}: {mistake['msg']} ({meaning})"
