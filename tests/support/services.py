"""The installed services, and the variables that they read."""

from typing import Any

from taskbell.cli.packages import SERVICES, offers
from taskbell.service import Service
from taskbell.settings import Environment


def services() -> dict[str, Service[Any]]:
    """The installed services, by name."""
    return {name: offer.load() for name, offer in offers(SERVICES).items()}


def variables(settings: type[Environment]) -> list[str]:
    """The names of the environment variables of these settings."""
    return [name.upper() for name in settings.model_fields]
