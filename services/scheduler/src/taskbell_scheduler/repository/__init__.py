"""All SQL: `scheduling` is the running scheduler's, `operating` that of people at the command line."""

from taskbell_scheduler.repository.scheduling import (
    DEADLOCK,
    LOCK_NOT_AVAILABLE,
    Fingerprint,
    Key,
    SchedulerRepository,
    Snapshot,
)

__all__ = ["DEADLOCK", "LOCK_NOT_AVAILABLE", "Fingerprint", "Key", "SchedulerRepository", "Snapshot"]
