"""Settings of the notifier; MAIL_* names are those of Flask-Mail."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, create_model, model_validator

from taskbell.kinds import Kind
from taskbell.settings import (
    CommonSettings,
    Environment,
    HttpUrl,
    OptionalSecret,
    OptionalText,
    Zone,
    is_default,
    load,
)
from taskbell.zones import zone_named
from taskbell_notifier.addresses import read_address, split_addresses
from taskbell_notifier.kinds.table import OWN, Kinds, installed_kinds
from taskbell_notifier.mail.headers import Mailbox, parse_sender
from taskbell_notifier.mail.links import TASK_URL_PATTERN, Links, absolute
from taskbell_notifier.smtp.oauth import OAuthSettings
from taskbell_notifier.smtp.own_name import checked_name
from taskbell_notifier.smtp.settings import SmtpSettings
from taskbell_notifier.unsubscribe.tokens import Unsubscriber


def _sender(text: str) -> str:
    parse_sender(text)
    return text


def _keys(former: str) -> set[str]:
    """The keys in SECRET_KEY_FORMER. The whole text may also be one key that contains commas."""
    return {former.strip(), *map(str.strip, former.split(","))} - {""}


def _own_name(name: str | None) -> str | None:
    return None if name is None else checked_name(name)


def _shown(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


def _recipients(text: str) -> str:
    for address in split_addresses(text):
        if read_address(address) is None:
            msg = f"{address!r} is not a mail address; give addresses separated by commas"
            raise ValueError(msg)
    return text


def _empty_is_none(value: object) -> object:
    return None if value == "" else value


SHORTEST_KEY = 32
"""Characters that SECRET_KEY must have in production: whoever has one link can try keys without asking us."""

MAKE_KEY = "python3 -c 'import secrets; print(secrets.token_urlsafe(32))'"

Hours = Annotated[float, Field(gt=0, le=24 * 30)]


def expiry_settings(kinds: Iterable[Kind]) -> type[Environment]:
    """A settings class with MAIL_EXPIRY_HOURS_<NAME> for each of these kinds."""
    fields: dict[str, Any] = {
        _expiry_name(kind): (
            Hours,
            Field(
                default=kind.expiry / timedelta(hours=1),
                description=f"Hours after its time from which a {kind.name} mail is no longer sent",
            ),
        )
        for kind in kinds
    }
    return create_model("ExpirySettings", __base__=Environment, **fields)


def _expiry_name(kind: Kind) -> str:
    return f"mail_expiry_hours_{kind.name}"


def expiry_of(kinds: Iterable[Kind], settings: Environment) -> Mapping[str, timedelta]:
    """By the name of each of these kinds, how long after T its mails are sent."""
    return {kind.name: timedelta(hours=getattr(settings, _expiry_name(kind))) for kind in kinds}


class Appearance(Environment):
    """The settings that shape mails, in the notifier and in `taskbell mail preview`."""

    app_url: HttpUrl = Field(default=None, description="Address of the web app, for links in mails")
    task_url_pattern: str = Field(default=TASK_URL_PATTERN, description="Address of one task")
    product_name: str = Field(default="Taskbell", min_length=1, description="The name that mails carry")

    @property
    def links(self) -> Links:
        """The web app's addresses."""
        return Links(self.app_url, self.task_url_pattern)

    @model_validator(mode="after")
    def _absolute(self) -> Self:
        _ = self.links
        return self


class Preview(Appearance):
    """The settings of `taskbell mail preview`, which shows a mail without sending it."""

    timezone: Zone = Field(default="UTC", description="Zone of people and schedules that name none")

    @property
    def zone(self) -> ZoneInfo:
        """The zone of users without a valid zone."""
        return zone_named(self.timezone)


if TYPE_CHECKING:

    class OwnExpiry(Environment):
        """MAIL_EXPIRY_HOURS_<NAME> for each of our own kinds."""
else:
    OwnExpiry = expiry_settings(OWN)


NO_MAIL = "MAIL_SUPPRESS_SEND is set: no mail is sent, each row ends skipped"


class NotifierSettings(OwnExpiry, Appearance, CommonSettings):
    """All settings of the notifier."""

    mail_server: str = Field(default="localhost", min_length=1, description="SMTP server that takes our mail")
    mail_port: int = Field(default=25, ge=1, le=65535, description="25, 587 with MAIL_USE_TLS, 465 with MAIL_USE_SSL")
    mail_username: OptionalText = Field(default=None, description="Name for SMTP AUTH")
    mail_password: OptionalSecret = Field(default=None, description="Password for SMTP AUTH")
    mail_use_tls: bool = Field(default=False, description="STARTTLS, required")
    mail_use_ssl: bool = Field(default=False, description="TLS from the first byte")
    mail_ca_file: OptionalText = Field(default=None, description="PEM file of authorities to trust, not the system's")
    mail_local_hostname: Annotated[str | None, BeforeValidator(_empty_is_none), AfterValidator(_own_name)] = Field(
        default=None, description="The name that we give in EHLO; unset: the host's full name, else its address"
    )
    mail_oauth2_token_file: OptionalText = Field(
        default=None, description="File with an access token for XOAUTH2, read at each login, in place of MAIL_PASSWORD"
    )
    mail_oauth2_token_url: OptionalText = Field(
        default=None, description="https address of the server that gives access tokens, in place of such a file"
    )
    mail_oauth2_client_id: OptionalText = Field(default=None, description="Our client id at the token server")
    mail_oauth2_client_secret: OptionalSecret = Field(default=None, description="Our secret at the token server")
    mail_oauth2_refresh_token: OptionalSecret = Field(
        default=None, description="Refresh token to ask with, in place of the client's own credentials"
    )
    mail_oauth2_scope: OptionalText = Field(default=None, description="Scope that the token server is asked for")
    mail_default_sender: Annotated[str, AfterValidator(_sender)] = Field(
        description="The sender of mails, an address or `Name <address>`"
    )
    mail_suppress_send: bool = Field(default=False, description="true: everything but the sending")
    mail_pool_size: int = Field(default=8, ge=1, le=500, description="SMTP sessions at once")
    mail_timeout: float = Field(default=30.0, gt=0, description="Seconds for each step up to the message")
    mail_data_timeout: float = Field(default=600.0, gt=0, description="Seconds for the reply to the message")
    mail_rate_per_second: Annotated[float | None, BeforeValidator(_empty_is_none)] = Field(
        default=None, gt=0, description="Mails a second at most"
    )
    mail_lease_seconds: float = Field(
        default=120.0, ge=3, le=3600, description="Seconds that a claim on a mail lasts without renewal"
    )
    unknown_policy: Literal["resend", "hold"] = Field(
        default="resend", description="A mail whose outcome is unknown is sent once more, or held"
    )
    public_url: HttpUrl = Field(default=None, description="Public address of /u/; unset: no unsubscribe links")
    public_port: Annotated[int | None, BeforeValidator(_empty_is_none)] = Field(
        default=None, ge=0, le=65535, description="Serves /u/ there instead of on HTTP_PORT"
    )
    secret_key: OptionalSecret = Field(default=None, description="Signs unsubscribe links; needed with PUBLIC_URL")
    secret_key_former: OptionalSecret = Field(
        default=None,
        description="Former SECRET_KEYs, separated by commas, whose links still work; one that has a comma alone",
    )
    report_recipients: Annotated[str, AfterValidator(_recipients)] = Field(
        default="", description="Who gets the daily report, addresses separated by commas"
    )

    @classmethod
    def known_names(cls) -> Collection[str]:
        """The variables that may be set, those for the kinds of packages included."""
        return [*super().known_names(), *(_expiry_name(kind).upper() for kind in installed_kinds().values())]

    @classmethod
    def weakness(cls, name: str, secret: str) -> str | None:
        """Besides default secrets: a short SECRET_KEY, and a default one among its former keys."""
        if name == "secret_key" and len(secret.strip()) < SHORTEST_KEY and not is_default(secret):
            return (
                f"is shorter than {SHORTEST_KEY} characters, so that it can be guessed from a link: "
                f"TASKBELL_ENV=production refuses it. `{MAKE_KEY}` makes one; put the present one into "
                "SECRET_KEY_FORMER, so that links in mails that were sent go on working"
            )
        if name == "secret_key_former" and any(map(is_default, _keys(secret))):
            return (
                "has the default secret of .env.example among its keys, with which anybody can make links: "
                "TASKBELL_ENV=production refuses it, take it out"
            )
        return super().weakness(name, secret)

    def warnings(self) -> Iterator[str]:
        """No mail is sent; short former keys in production: links that were made with them may be guessed."""
        if self.mail_suppress_send:
            yield f"{NO_MAIL}; unset it to send mail"
        former = "" if self.secret_key_former is None else self.secret_key_former.get_secret_value()
        if self.taskbell_env == "production" and any(len(key) < SHORTEST_KEY for key in _keys(former)):
            yield (
                f"SECRET_KEY_FORMER has a key that is shorter than {SHORTEST_KEY} characters, and so can be guessed "
                "from a link: take it out as soon as the links that it made may stop working"
            )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.public_url is not None and self.secret_key is None:
            msg = "PUBLIC_URL is set without SECRET_KEY (or SECRET_KEY_FILE), which signs the unsubscribe links"
            raise ValueError(msg)
        if self.public_url is not None:
            absolute(self.public_url, "PUBLIC_URL")
        return self

    @property
    def sender(self) -> Mailbox:
        """Whom mails are from."""
        return parse_sender(self.mail_default_sender)

    def unsubscriber(self, kinds: Kinds) -> Unsubscriber | None:
        """Makes and reads the tokens of unsubscribe links; None without SECRET_KEY."""
        if self.secret_key is None:
            return None
        former = "" if self.secret_key_former is None else self.secret_key_former.get_secret_value()
        key = self.secret_key.get_secret_value()
        # Blanks around a key were once a part of it.
        spelled = {key} - {key.strip()}
        return Unsubscriber(kinds, key.strip(), sorted(spelled | _keys(former)))

    @property
    def operators(self) -> tuple[str, ...]:
        """The addresses that get the daily report."""
        return tuple(split_addresses(self.report_recipients))

    @property
    def lease(self) -> timedelta:
        """How long a claim lasts without renewal."""
        return timedelta(seconds=self.mail_lease_seconds)

    def expiry(self, kinds: Kinds) -> Mapping[str, timedelta]:
        """By kind, how long after T its mails are sent.

        Raises:
            SettingsError: the setting of a package's kind is wrong.
        """
        own = {kind.name for kind in OWN}
        others = [kind for kind in kinds.values() if kind.name not in own]
        return {**expiry_of(OWN, self), **expiry_of(others, load(expiry_settings(others)))}

    @property
    def _oauth(self) -> OAuthSettings | None:
        given = {
            "token_file": self.mail_oauth2_token_file,
            "token_url": self.mail_oauth2_token_url,
            "client_id": self.mail_oauth2_client_id,
            "client_secret": _shown(self.mail_oauth2_client_secret),
            "refresh_token": _shown(self.mail_oauth2_refresh_token),
            "scope": self.mail_oauth2_scope,
        }
        return OAuthSettings(**given) if any(given.values()) else None

    @property
    def smtp(self) -> SmtpSettings:
        """The settings of the SMTP side.

        Raises:
            SettingsError: two of these settings contradict each other.
        """
        return SmtpSettings(
            server=self.mail_server,
            port=self.mail_port,
            username=self.mail_username,
            password=_shown(self.mail_password),
            oauth=self._oauth,
            local_hostname=self.mail_local_hostname,
            use_tls=self.mail_use_tls,
            use_ssl=self.mail_use_ssl,
            ca_file=self.mail_ca_file,
            pool_size=self.mail_pool_size,
            timeout=self.mail_timeout,
            data_timeout=self.mail_data_timeout,
            rate_per_second=self.mail_rate_per_second,
        )
