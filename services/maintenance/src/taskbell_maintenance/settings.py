"""What the maintenance service needs to know."""

from decimal import Decimal

from pydantic import Field

from taskbell.settings import CommonSettings


class MaintenanceSettings(CommonSettings):
    """Settings of reports, cleanup and status updates."""

    retention_days: int = Field(
        default=30, ge=0, le=36_500, description="Days for which completed tasks stay, unless a command says otherwise"
    )
    cleanup_max_share: Decimal = Field(
        default=Decimal("0.20"),
        ge=0,
        le=1,
        description="Share of all tasks above which a cleanup is refused without force",
    )
