"""The scheduler's metrics for Prometheus."""

from prometheus_client import Counter, Histogram

from taskbell.metrics import Metrics

LATENESS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300, 3600)
"""Bounds of histogram buckets, in seconds."""


class SchedulerMetrics:
    """Counts how occurrences ended, and measures how late they were written."""

    def __init__(self, metrics: Metrics) -> None:
        self.occurrences = Counter(
            "taskbell_occurrences",
            "Occurrences by schedule and by how they ended: published, missed or paused",
            ["schedule", "status"],
            registry=metrics.registry,
        )
        self.lateness = Histogram(
            "taskbell_occurrence_lateness_seconds",
            "Seconds from when an occurrence was due until it was committed to be published",
            buckets=LATENESS,
            registry=metrics.registry,
        )
