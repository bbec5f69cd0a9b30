"""The settings of setup."""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, SecretStr, create_model

from taskbell.extensions import Installed
from taskbell.settings import CommonSettings, OptionalSecret

_ROLE = "If set, setup makes the PostgreSQL role taskbell_{} with this password"
_USER = "If set, and BROKER_MANAGEMENT_URL too, setup makes the RabbitMQ user taskbell_{} with this password"


class SetupSettings(CommonSettings):
    """The settings of setup. DATABASE_URL and BROKER_URL are those of an administrator here."""

    setup_grant: str = Field(
        default="", description="Packages that get the rights that they ask for, separated by commas"
    )
    scheduler_database_password: OptionalSecret = Field(default=None, description=_ROLE.format("scheduler"))
    notifier_database_password: OptionalSecret = Field(default=None, description=_ROLE.format("notifier"))
    maintenance_database_password: OptionalSecret = Field(default=None, description=_ROLE.format("maintenance"))
    app_database_password: OptionalSecret = Field(default=None, description=_ROLE.format("app"))
    operator_database_password: OptionalSecret = Field(default=None, description=_ROLE.format("operator"))
    scheduler_broker_password: OptionalSecret = Field(default=None, description=_USER.format("scheduler"))
    notifier_broker_password: OptionalSecret = Field(default=None, description=_USER.format("notifier"))
    maintenance_broker_password: OptionalSecret = Field(default=None, description=_USER.format("maintenance"))
    app_broker_password: OptionalSecret = Field(default=None, description=_USER.format("app"))
    operator_broker_password: OptionalSecret = Field(default=None, description=_USER.format("operator"))

    @property
    def packages_to_grant(self) -> list[str]:
        """The names in SETUP_GRANT."""
        return [name for name in map(str.strip, self.setup_grant.split(",")) if name]

    def passwords(self, server: Literal["database", "broker"], roles: Sequence[str]) -> dict[str, str]:
        """The passwords of these roles that are set, by role."""
        given: dict[str, SecretStr | None] = {role: getattr(self, f"{role}_{server}_password") for role in roles}
        return {role: secret.get_secret_value() for role, secret in given.items() if secret is not None}


def settings_with(packages: Sequence[Installed]) -> type[SetupSettings]:
    """The settings of setup, with passwords for the packages' own services.

    For example, service `timesheets` has TIMESHEETS_DATABASE_PASSWORD and TIMESHEETS_BROKER_PASSWORD.
    """
    fields: dict[str, Any] = {}
    for service in (service for package in packages for service in package.services):
        for server, description in (("database", _ROLE), ("broker", _USER)):
            password = Field(default=None, description=description.format(service))
            fields[f"{service}_{server}_password"] = (OptionalSecret, password)
    return create_model("SetupSettings", __base__=SetupSettings, **fields) if fields else SetupSettings
