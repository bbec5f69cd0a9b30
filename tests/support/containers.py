"""PostgreSQL and RabbitMQ in containers, where a Docker engine answers.

testcontainers' own reaper stays off: it needs another image and the engine's socket. Every container carries our label
with the process that it was made for; each new run removes those whose process is gone.
"""

import contextlib
import json
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import httpx

from taskbell_devstack.errors import DevstackError, NotReady
from taskbell_devstack.postgresql import lets_in
from taskbell_devstack.processes import ProcessRecord, is_running, record_of
from taskbell_devstack.rabbitmq import greets

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container
    from testcontainers.core.container import DockerContainer

POSTGRESQL = os.environ.get("TEST_POSTGRES_IMAGE") or "postgres:17"
RABBITMQ = os.environ.get("TEST_RABBITMQ_IMAGE") or "rabbitmq:4-management"
IMAGES = (POSTGRESQL, RABBITMQ)
LABEL = "taskbell.tests"  # its value is the run's name
OWNER = "taskbell.tests.owner"
PAIR = "taskbell.tests.pair"  # which pair of a run: the one that its tests share, or one of a test's own
SHARED = "shared"
USER = "taskbell"
START_LIMIT = 120.0


def engine_answers() -> bool:
    """Whether a Docker engine can be used; quick where there is none."""
    if not os.environ.get("DOCKER_HOST") and not Path("/var/run/docker.sock").exists():
        return False
    from docker.errors import DockerException

    try:
        with _engine() as engine:
            return bool(engine.ping())
    except DockerException:
        return False


def missing_images() -> list[str]:
    """The images that would have to be pulled."""
    from docker.errors import ImageNotFound

    missing = []
    with _engine() as engine:
        for image in IMAGES:
            try:
                engine.images.get(image)
            except ImageNotFound:
                missing.append(image)
    return missing


def pull_missing() -> None:
    """Pull what is missing; raises DevstackError where that cannot be done, as without a way to the registry."""
    from docker.errors import DockerException

    try:
        with _engine() as engine:
            for image in missing_images():
                engine.images.pull(image)
    except DockerException as error:
        raise DevstackError(f"The images cannot be had: {error}") from error


class Ports(NamedTuple):
    """Where a pair is reached on this machine; each None: at any free port, another one at every start."""

    postgresql: int | None = None
    rabbitmq: int | None = None
    management: int | None = None


ANY_PORTS = Ports()


def start(run: str, *, owner: str, pair: str = SHARED, ports: Ports = ANY_PORTS) -> tuple[str, str, str]:
    """Start both for that run; the URLs of database, broker and management API once they answer.

    `owner` is this_process() of the process that the run stands and falls with.
    """
    from testcontainers.core.config import testcontainers_config
    from testcontainers.core.container import DockerContainer

    testcontainers_config.ryuk_disabled = True
    remove_orphans()
    password = secrets.token_urlsafe(12)
    labels = {LABEL: run, OWNER: owner, PAIR: pair}
    database = (
        DockerContainer(POSTGRESQL)
        .with_envs(POSTGRES_USER=USER, POSTGRES_PASSWORD=password, POSTGRES_DB=USER)
        .with_command(["postgres", "-c", "max_connections=200"])
        .with_bind_ports(5432, ports.postgresql)
        .with_kwargs(labels=labels)
        .start()
    )
    broker = (
        DockerContainer(RABBITMQ)
        .with_envs(
            RABBITMQ_DEFAULT_USER=USER,
            RABBITMQ_DEFAULT_PASS=password,
            # As in the configurations that we ship.
            RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="-rabbit max_message_size 4194304",
        )
        .with_bind_ports(5672, ports.rabbitmq)
        .with_bind_ports(15672, ports.management)
        .with_kwargs(labels=labels)
        .start()
    )
    management_url = f"http://{USER}:{password}@{_address(broker, 15672)}"
    host = database.get_container_host_ip()
    _wait(database, lambda: lets_in(host, database.get_exposed_port(5432)), "PostgreSQL")
    _wait(
        broker,
        lambda: greets(host, broker.get_exposed_port(5672)) and _is_managed(management_url),
        "RabbitMQ",
    )
    return (
        f"postgresql://{USER}:{password}@{_address(database, 5432)}/{USER}",
        f"amqp://{USER}:{password}@{_address(broker, 5672)}/",
        management_url,
    )


@contextlib.contextmanager
def container(run: str, pair: str, image: str) -> Iterator["Container"]:
    """One of a pair, to be killed, stopped, started again or looked into."""
    with _engine() as engine:
        labels = [f"{LABEL}={run}", f"{PAIR}={pair}"]
        (found,) = engine.containers.list(all=True, filters={"label": labels, "ancestor": image})
        yield found


def remove_of(run: str) -> None:
    """Remove the containers of that run, with their volumes."""
    if engine_answers():
        with _engine() as engine:
            for container in engine.containers.list(all=True, filters={"label": f"{LABEL}={run}"}):
                container.remove(force=True, v=True)


def remove_orphans() -> None:
    """Remove the containers of runs on this machine whose process is gone."""
    with _engine() as engine:
        for container in engine.containers.list(all=True, filters={"label": LABEL}):
            owner = json.loads(container.labels[OWNER])
            here = owner["host"] == socket.gethostname()
            if here and not is_running(ProcessRecord.model_validate(owner["process"])):
                container.remove(force=True, v=True)


def this_process() -> str:
    """A label's value that tells this process, on this machine, from any other."""
    record = record_of(os.getpid())
    assert record is not None
    return json.dumps({"host": socket.gethostname(), "process": record.model_dump()})


@contextlib.contextmanager
def _engine() -> Iterator["DockerClient"]:
    import docker

    with contextlib.closing(docker.from_env(timeout=60)) as engine:
        yield engine


def _address(container: "DockerContainer", port: int) -> str:
    return f"{container.get_container_host_ip()}:{container.get_exposed_port(port)}"


def _is_managed(url: str) -> bool:
    try:
        return httpx.get(f"{url}/api/overview", timeout=5, trust_env=False).is_success
    except httpx.TransportError:
        return False


def _wait(container: "DockerContainer", ready: Callable[[], bool], name: str) -> None:
    deadline = time.monotonic() + START_LIMIT
    while not ready():
        if time.monotonic() > deadline:
            output, errors = container.get_logs()
            end = (output + errors).decode(errors="replace")[-2_000:]
            raise NotReady(f"{name} in its container did not answer within {START_LIMIT:g} s:\n{end}")
        time.sleep(0.1)
