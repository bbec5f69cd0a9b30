"""The containers beside ours, closed as ours are, and who can reach whom."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from tests.stack.compose import Compose

HELPERS = ("postgres", "rabbitmq", "mailpit", "prometheus", "grafana")
RUNNING = ("postgres", "rabbitmq", "mailpit")

NETWORKS = {
    "postgres": {"database"},
    "rabbitmq": {"broker", "monitoring"},
    "setup": {"database", "broker"},
    "operator": {"database", "broker"},
    "demo": {"database", "broker"},
    "scheduler": {"database", "broker", "monitoring"},
    "maintenance": {"database", "broker", "monitoring"},
    "notifier": {"database", "broker", "mail", "monitoring", "public"},
    "mailpit": {"mail"},
    "prometheus": {"monitoring", "dashboards"},
    "grafana": {"dashboards"},
}


@pytest.fixture(scope="module")
def configured(compose: Callable[..., Compose]) -> dict[str, Any]:
    """The file as compose reads it, with every profile."""
    read: dict[str, Any] = yaml.safe_load(compose("config", profiles=["*"])("config"))
    return read


@pytest.fixture(scope="module")
def with_inbox(compose: Callable[..., Compose]) -> Compose:
    """The stack with its inbox."""
    stack = compose("helpers", profiles=["dev"])
    stack.up()
    return stack


@pytest.mark.parametrize("helper", HELPERS)
def test_a_helper_is_configured_as_closed_as_our_services(configured: dict[str, Any], helper: str) -> None:
    service = configured["services"][helper]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "/tmp" in service["tmpfs"]
    assert int(service["deploy"]["resources"]["limits"]["pids"]) > 0
    allowed = {"CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"} if helper in ("postgres", "rabbitmq") else set()
    assert set(service.get("cap_add", [])) <= allowed


@pytest.mark.parametrize("helper", RUNNING)
def test_a_running_helper_has_no_right_left_and_writes_only_its_volume(with_inbox: Compose, helper: str) -> None:
    (container,) = with_inbox.inspect(helper)
    assert container["HostConfig"]["ReadonlyRootfs"]
    # By the process itself: `docker exec` would show the rights of root, which the entrypoint has given up.
    status = with_inbox("exec", "-T", helper, "cat", "/proc/1/status")
    held = dict(line.split(":", 1) for line in status.splitlines())
    assert int(held["CapEff"], 16) == 0
    assert held["NoNewPrivs"].strip() == "1"
    assert "0" not in held["Uid"].split()
    tried = with_inbox("exec", "-T", helper, "sh", "-c", "touch /etc/x 2>&1 || true")
    assert "Read-only file system" in tried


def test_every_container_is_on_the_networks_that_it_needs_only(configured: dict[str, Any]) -> None:
    assert {name: set(it["networks"]) for name, it in configured["services"].items()} == NETWORKS


@pytest.mark.parametrize(
    ("client", "server", "reached"),
    [
        ("notifier", "mailpit:1025", True),
        ("scheduler", "mailpit:1025", False),
        ("maintenance", "mailpit:1025", False),
        ("scheduler", "postgres:5432", True),
        ("scheduler", "rabbitmq:5672", True),
    ],
)
def test_a_container_reaches_what_it_needs_and_no_more(
    with_inbox: Compose, client: str, server: str, *, reached: bool
) -> None:
    host, port = server.split(":")
    if not reached:
        # By its address too, because a name that does not resolve proves little.
        networks = with_inbox.inspect(host)[0]["NetworkSettings"]["Networks"]
        (host,) = (network["IPAddress"] for network in networks.values())
    connect = f"import socket; socket.create_connection(({host!r}, {port}), 3)"
    script = f"try:\n    {connect}\n    print('true')\nexcept OSError:\n    print('false')"
    assert json.loads(with_inbox("exec", "-T", client, "python", "-c", script)) is reached


def test_the_public_port_serves_unsubscribe_links_and_nothing_else(with_inbox: Compose) -> None:
    script = """
import http.client
for port in 8081, 8080:
    for path in "/metrics", "/readyz":
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        client.request("GET", path)
        print(port, path, client.getresponse().status)
"""
    answers = with_inbox("exec", "-T", "notifier", "python", "-c", script).splitlines()
    assert answers == ["8081 /metrics 404", "8081 /readyz 404", "8080 /metrics 200", "8080 /readyz 200"]


def test_mail_flows_to_the_inbox(with_inbox: Compose) -> None:
    printed = with_inbox.taskbell(
        "publish", "notifier.send_test_mail", '{"to": "anybody@example.org"}', "--wait", "30", "--json"
    )
    assert json.loads(printed)["outcome"]["state"] == "done"
    deadline = time.monotonic() + 60
    while with_inbox.sql("SELECT state FROM taskbell.delivery WHERE kind = 'test'") != [["sent"]]:
        assert time.monotonic() < deadline, with_inbox.said()
