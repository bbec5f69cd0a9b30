"""The settings of SMTP, independent of where they come from."""

from dataclasses import dataclass, field

from taskbell.errors import SettingsError
from taskbell_notifier.smtp.oauth import OAuthSettings


@dataclass(frozen=True, slots=True)
class SmtpSettings:
    """The MAIL_* settings of one notifier; times in seconds.

    Raises:
        SettingsError: two settings contradict each other.
    """

    server: str = "localhost"
    port: int = 25
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    use_tls: bool = False
    """STARTTLS, required."""
    use_ssl: bool = False
    """TLS from the first byte."""
    ca_file: str | None = None
    """PEM file of the authorities to trust instead of the system's."""
    pool_size: int = 8
    timeout: float = 30.0
    """For each step up to the 354, and for opening a connection."""
    data_timeout: float = 600.0
    """For the reply to the final dot."""
    rate_per_second: float | None = None
    """Mails a second over all sessions; None: as fast as the server takes them."""
    mails_per_session: int = 100
    idle_seconds: float = 30.0
    local_hostname: str | None = None
    """The name given in EHLO; None: the host's full name, or its address if it has none."""
    oauth: OAuthSettings | None = None
    """Where access tokens come from, in place of a password."""

    def __post_init__(self) -> None:
        if self.use_tls and self.use_ssl:
            msg = "MAIL_USE_TLS and MAIL_USE_SSL are both set: keep the first for port 587, the second for 465"
            raise SettingsError(msg)
        if "\r" in self.server or "\n" in self.server:
            msg = "MAIL_SERVER contains a line break: give one host name"
            raise SettingsError(msg)
        if self.username and self.password is None and self.oauth is None:
            msg = "MAIL_USERNAME is set without MAIL_PASSWORD (or MAIL_PASSWORD_FILE): set both or neither"
            raise SettingsError(msg)
        if self.oauth is not None and self.password is not None:
            msg = "MAIL_PASSWORD and MAIL_OAUTH2_* are both set: keep the one that the server asks for"
            raise SettingsError(msg)
        if self.oauth is not None and not self.username:
            msg = "MAIL_OAUTH2_* is set without MAIL_USERNAME: it is the mailbox that the access token is for"
            raise SettingsError(msg)
