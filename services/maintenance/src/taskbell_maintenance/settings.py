"""Settings of the maintenance service."""

from decimal import Decimal

from pydantic import Field

from taskbell.settings import CommonSettings


class MaintenanceSettings(CommonSettings):
    """Settings of reports, cleanup and status updates."""

    retention_days: int = Field(
        default=30, ge=0, le=36_500, description="Days that completed tasks are kept, unless a command says otherwise"
    )
    cleanup_max_share: Decimal = Field(
        default=Decimal("0.20"),
        ge=0,
        le=1,
        description="Largest share of all tasks that a cleanup may take without force",
    )
