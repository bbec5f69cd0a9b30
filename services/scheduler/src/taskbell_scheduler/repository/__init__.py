"""All SQL of the scheduler: `scheduling` for the running service, `operating` for the command line."""

from taskbell_scheduler.repository.scheduling import (
    DEADLOCK,
    LOCK_NOT_AVAILABLE,
    Fingerprint,
    OccurrenceKey,
    SchedulerRepository,
    Snapshot,
)

__all__ = ["DEADLOCK", "LOCK_NOT_AVAILABLE", "Fingerprint", "OccurrenceKey", "SchedulerRepository", "Snapshot"]
