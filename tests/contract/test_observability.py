"""Alerts and dashboards ask for figures that there are, under the labels that they have."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from tests.support.services import services

from taskbell.contracts import CATALOGUE
from taskbell.messaging.topology import topology
from taskbell.metrics import Metrics
from taskbell_notifier.lifecycle import DeliveryState
from taskbell_notifier.metrics import NotifierMetrics
from taskbell_scheduler.domain import OccurrenceStatus
from taskbell_scheduler.metrics import SchedulerMetrics

DEPLOY = Path(__file__).parents[2] / "deploy"
PROMETHEUS = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
ALERTS = [
    rule
    for group in yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
DASHBOARDS = {path.name: json.loads(path.read_text()) for path in (DEPLOY / "grafana" / "dashboards").glob("*.json")}
PROVISIONING = DEPLOY / "grafana" / "provisioning"

OF_RABBITMQ = {
    "rabbitmq_alarms_free_disk_space_watermark",
    "rabbitmq_alarms_memory_used_watermark",
    "rabbitmq_detailed_queue_consumers",
    "rabbitmq_detailed_queue_messages",
    "rabbitmq_detailed_queue_messages_bytes",
    "rabbitmq_detailed_queue_messages_ready",
    "rabbitmq_detailed_queue_messages_unacked",
}
"""Seen on RabbitMQ 4.0; the families that they are in exist in 3.10, too."""

SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}


def measured() -> dict[str, set[str]]:
    """The labels of each series that the services have, by its name."""
    metrics = Metrics()
    NotifierMetrics(metrics)
    SchedulerMetrics(metrics)
    return {
        family.name + suffix: {"job", "instance", *labels, *(["le"] if suffix == "_bucket" else [])}
        for collector, labels in _collectors(metrics)
        for family in collector.describe()
        for suffix in SUFFIXES[family.type]
    }


def _collectors(metrics: Metrics) -> Iterator[tuple[Any, tuple[str, ...]]]:
    for collector in metrics.registry._collector_to_names:
        yield collector, collector._labelnames


def expressions() -> Iterator[tuple[str, str]]:
    """Every question to Prometheus, and where it stands."""
    for rule in ALERTS:
        yield rule["alert"], rule["expr"]
    for name, dashboard in DASHBOARDS.items():
        for panel in dashboard["panels"]:
            for target in panel["targets"]:
                yield f"{name}: {panel['title']}", target["expr"]


ASKED = list(expressions())
EVERY = pytest.mark.parametrize(
    ("where", "expression"), ASKED, ids=[f"{n} {where}" for n, (where, _) in enumerate(ASKED)]
)


@EVERY
def test_every_metric_exists(where: str, expression: str) -> None:
    names = set(re.findall(r"\b(?:taskbell|rabbitmq)_\w+", expression))
    assert names <= measured().keys() | OF_RABBITMQ
    assert names or "up{" in expression


@EVERY
def test_every_label_exists(where: str, expression: str) -> None:
    series = measured()
    for metric, inside in re.findall(r"\b(taskbell_\w+)\{([^}]*)\}", expression):
        assert set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", inside)) <= series[metric]
    # What is grouped by must be a label of something that is asked for.
    labels = {label for name in series if name in expression for label in series[name]} | {"queue", "instance", "job"}
    for group in re.findall(r"\bby \(([^)]*)\)", expression):
        assert {label.strip() for label in group.split(",")} <= labels


@EVERY
def test_every_value_of_a_label_can_occur(where: str, expression: str) -> None:
    queues = {queue.name for queue in topology().queues}
    can_be = {
        "state": set(DeliveryState),
        "status": set(get_args(OccurrenceStatus)),
        "job": {job["job_name"] for job in PROMETHEUS["scrape_configs"]},
        "queue": queues,
    }
    for label, operator, wanted in re.findall(r'\b(state|status|job|queue)(=~|!~|=)"([^"]*)"', expression):
        pattern = re.escape(wanted) if operator == "=" else wanted.replace(r"\\", "\\")
        # sent|failed: each of them; (notifier|maintenance)\.dead: whatever it is, something matches.
        for alternative in [pattern] if "(" in pattern else pattern.split("|"):
            assert any(re.fullmatch(alternative, it) for it in can_be[label]), f"{label}: {wanted}"


def test_batches_wait_in_the_queue_that_the_scaling_rule_names() -> None:
    assert CATALOGUE["notifier.send_batch"].queue == "notifier.send_batch"


def test_every_alert_has_words_a_severity_and_a_test() -> None:
    tested = (DEPLOY / "prometheus" / "alerts.test.yml").read_text()
    for rule in ALERTS:
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert set(rule["annotations"]) == {"summary", "description"}
        assert f'alertname="{rule["alert"]}"' in tested
    assert len({rule["alert"] for rule in ALERTS}) == len(ALERTS)


def test_each_copy_of_each_service_is_scraped_and_the_broker() -> None:
    found = {
        job["job_name"]: [(names["names"], names["type"], names["port"]) for names in job["dns_sd_configs"]]
        for job in PROMETHEUS["scrape_configs"]
    }
    broker = [(["rabbitmq"], "A", 15692)]
    assert found == {name: [([name], "A", 8080)] for name in services()} | {
        "rabbitmq": broker,
        "rabbitmq-queues": broker,
    }
    assert PROMETHEUS["rule_files"] == ["alerts.yml"]


def test_grafana_finds_its_source_and_its_dashboards() -> None:
    (source,) = yaml.safe_load((PROVISIONING / "datasources" / "prometheus.yml").read_text())["datasources"]
    (provider,) = yaml.safe_load((PROVISIONING / "dashboards" / "taskbell.yml").read_text())["providers"]
    readme = (DEPLOY / "grafana" / "dashboards" / "README.md").read_text()
    assert f"`{provider['options']['path']}`" in readme
    assert len({dashboard["uid"] for dashboard in DASHBOARDS.values()}) == len(DASHBOARDS) > 0
    for name, dashboard in DASHBOARDS.items():
        assert f"`{name}`" in readme
        assert "id" not in dashboard
        assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
        for panel in dashboard["panels"]:
            assert {panel["datasource"]["uid"], *(target["datasource"]["uid"] for target in panel["targets"])} == {
                source["uid"]
            }
