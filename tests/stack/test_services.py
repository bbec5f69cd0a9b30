"""What each container is, and that the stack does its work."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from taskbell.messaging.topology import CONSUMERS, dead_queue, topology
from tests.stack.compose import Compose

SERVICES = ("scheduler", "notifier", "maintenance")


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_runs_as_nobody_and_can_write_nowhere(stack: Compose, service: str) -> None:
    for container in stack.inspect(service):
        host = container["HostConfig"]
        assert container["Config"]["User"] == "10001:10001"
        assert host["ReadonlyRootfs"]
        assert host["CapDrop"] == ["ALL"]
        assert host["Init"]
        assert "no-new-privileges:true" in host["SecurityOpt"]
        assert host["Memory"] > 0
        assert host["RestartPolicy"]["Name"] == "unless-stopped"
    write = "open('/opt/taskbell/x', 'w')"
    answer = f"try:\n    {write}\nexcept OSError as error:\n    print(type(error).__name__, error.errno)"
    assert stack("exec", "-T", service, "python", "-c", answer).split()[0] in ("OSError", "PermissionError")
    assert stack("exec", "-T", service, "python", "-c", "import os; print(os.getuid())").strip() == "10001"


@pytest.mark.parametrize("service", SERVICES)
def test_no_service_has_an_administrators_login(stack: Compose, service: str) -> None:
    for container in stack.inspect(service):
        given = dict(line.split("=", 1) for line in container["Config"]["Env"])
        for url in ("DATABASE_URL", "BROKER_URL"):
            assert f"://taskbell_{service}:" in given[url]
        assert "BROKER_MANAGEMENT_URL" not in given


def test_every_queue_of_a_service_has_its_consumers(stack: Compose) -> None:
    url = f"http://taskbell:change-me@127.0.0.1:{stack.port('rabbitmq', 15672)}/api/queues"
    copies = {service: len(stack.ids(service)) for service in ("notifier", "maintenance")}
    expected = {
        queue.name: 0 if queue.name in map(dead_queue, CONSUMERS) else copies.get(queue.name.partition(".")[0], 0)
        for queue in topology().queues
    }
    deadline = time.monotonic() + 60
    while True:  # the management UI's figures are some seconds old
        answer = httpx.get(url, trust_env=False, timeout=30)
        consumers = {queue["name"]: queue.get("consumers") for queue in answer.json()}
        if consumers == expected:
            break
        assert time.monotonic() < deadline, consumers


def test_a_command_takes_effect_and_its_outcome_comes_back(stack: Compose) -> None:
    outcome = json.loads(stack.taskbell("publish", "maintenance.generate_task_report", "{}", "--wait", "30", "--json"))
    assert outcome["outcome"]["state"] == "done", outcome
    assert stack.sql("SELECT count(*) > 0 FROM taskbell.report") == [["t"]]


@pytest.mark.parametrize("header", ["CC", "BCC"])
def test_a_copy_that_a_header_asks_for_takes_no_effect(stack: Compose, header: str) -> None:
    url = f"http://taskbell:change-me@127.0.0.1:{stack.port('rabbitmq', 15672)}/api"
    message_id = f"copied by {header}"
    published = httpx.post(
        f"{url}/exchanges/%2F/taskbell.commands/publish",
        json={
            "routing_key": "maintenance.generate_task_report",
            "payload": "{}",
            "payload_encoding": "string",
            "properties": {"message_id": message_id, "headers": {header: ["maintenance.cleanup_completed_tasks"]}},
        },
        trust_env=False,
        timeout=30,
    )
    assert published.json() == {"routed": True}
    found: list[Any] = []
    deadline = time.monotonic() + 60
    while not found:
        answer = httpx.post(
            f"{url}/queues/%2F/maintenance.dead/get",
            json={"count": 10, "ackmode": "ack_requeue_false", "encoding": "auto"},
            trust_env=False,
            timeout=30,
        )
        found = [it for it in answer.json() if it["properties"].get("message_id") == message_id]
        assert time.monotonic() < deadline, answer.text
    (dead,) = found
    assert dead["properties"]["headers"]["x-taskbell-queue"] == "maintenance.cleanup_completed_tasks"
    assert dead["properties"]["headers"]["x-taskbell-reason"].startswith("came from exchange")
    assert stack.sql(f"SELECT count(*) FROM taskbell.archive_batch WHERE message_id = '{message_id}'") == [["0"]]


def test_the_broker_is_configured_against_messages_that_are_too_large(stack: Compose) -> None:
    said = stack("run", "--rm", "setup", limit=900)
    assert "are there" in said
    assert "advice: RabbitMQ took" not in said


def test_the_notifiers_page_answers_on_this_machines_loopback_only(stack: Compose) -> None:
    answer = httpx.get(f"http://127.0.0.1:{stack.port('notifier', 8080)}/readyz", trust_env=False)
    assert answer.status_code == 200
    for service in ("postgres", "rabbitmq", "notifier"):
        for bindings in stack.inspect(service)[0]["NetworkSettings"]["Ports"].values():
            assert {binding["HostIp"] for binding in bindings or ()} <= {"127.0.0.1"}


@pytest.mark.parametrize(
    "words",
    ["schedules list", "commands list", "archive list", "mail mailings", "mail why --user 1", "publish weekly.due"],
)
def test_the_operators_container_runs_the_commands_of_every_service(stack: Compose, words: str) -> None:
    stack("run", "--rm", "operator", *words.split(), limit=900)


@pytest.mark.parametrize("files", [(), ("deploy/compose/secrets.yml",)])
def test_the_files_are_valid_with_every_profile(compose: Callable[..., Compose], files: tuple[str, ...]) -> None:
    """All that could be done for the profile observability where its images are not to be had."""
    config = yaml.safe_load(compose("config", *files, profiles=["*"])("config"))
    assert {"prometheus", "grafana", "demo", "mailpit", "operator"} <= set(config["services"])
    for name in ("prometheus", "grafana"):
        for volume in config["services"][name]["volumes"]:
            assert volume["type"] == "volume" or Path(volume["source"]).exists(), volume
