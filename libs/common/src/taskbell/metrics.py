"""Prometheus metrics that every process of Taskbell has. Each process constructs them once, and not at import."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

LATENCY = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
"""Bounds of histogram buckets, in seconds."""


class Metrics:
    """The common metrics, and the registry to which services add their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.messages = Counter(
            "taskbell_messages",
            "Messages handled, by queue and by how that ended",
            ["queue", "fate"],  # done, retried, dead, returned
            registry=self.registry,
        )
        self.handling = Histogram(
            "taskbell_message_seconds",
            "Seconds from delivery to acknowledgement",
            ["queue"],
            buckets=LATENCY,
            registry=self.registry,
        )
        self.published = Counter(
            "taskbell_published",
            "Messages confirmed by the broker, by routing key",
            ["routing_key"],
            registry=self.registry,
        )
        self.publish_failures = Counter(
            "taskbell_publish_failures",
            "Publishes that failed, by kind of error; the outbox rows stay and are published later",
            ["error"],
            registry=self.registry,
        )
        self.clock_skew = Gauge(
            "taskbell_clock_skew_seconds",
            "Seconds by which this machine's clock is ahead of the database's; negative if it is behind",
            registry=self.registry,
        )
        self.outbox_waiting = Gauge(
            "taskbell_outbox_waiting",
            "Rows of the outbox without a confirm, as the relay last counted them",
            ["owner"],
            registry=self.registry,
        )
