"""Secrets: from files, refused where they are the default ones, and in no image."""

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.stack.compose import ROOT, Compose

IMAGES = ("scheduler", "notifier", "maintenance", "demo")
LARGEST = {"scheduler": 120, "notifier": 160}  # MB above the base image


def test_the_default_secrets_are_refused_in_production(compose: Callable[..., Compose]) -> None:
    stack = compose("refused", TASKBELL_ENV="production")
    stack("up", "--build", "--wait", check=False, limit=900)
    (setup,) = stack.inspect("setup")
    assert setup["State"]["ExitCode"] == 2
    said = stack("logs", "--no-color", "setup")
    for name in ("DATABASE_URL", "BROKER_URL", "NOTIFIER_BROKER_PASSWORD"):
        assert f"{name} still has the default secret of .env.example" in said
    for service in ("scheduler", "notifier", "maintenance"):
        assert not any(container["State"]["Running"] for container in stack.inspect(service))
    stack.remove()


def test_secrets_may_come_from_files_and_then_stand_in_no_environment(
    compose: Callable[..., Compose], tmp_path: Path
) -> None:
    folder = tmp_path / "secrets"
    subprocess.run([ROOT / "deploy/compose/make-secrets", folder], check=True, capture_output=True)
    secrets = {path.name: path.read_text().strip() for path in folder.iterdir()}
    stack = compose("secret", "deploy/compose/secrets.yml", profiles=["demo"], SECRETS=str(folder))
    stack.up()
    seen = json.dumps([stack.inspect(it) for it in ("postgres", "rabbitmq", "setup", *IMAGES)])
    assert [name for name, value in secrets.items() if value and value in seen] == []
    assert "change-me" not in seen
    assert stack.sql("SELECT count(*) >= 25 FROM taskbell.delivery WHERE state = 'sent'") == [["t"]]
    for service in ("scheduler", "notifier", "maintenance"):
        listed = stack("exec", "-T", service, "ls", "/run/secrets").split()
        others = {"setup", "postgres", "app", "operator", "scheduler", "notifier", "maintenance"} - {service}
        assert not [name for name in listed if name.partition("_")[0] in others]

    again = subprocess.run([ROOT / "deploy/compose/make-secrets", folder], check=True, capture_output=True)
    assert b"made " not in again.stdout, "what is there is kept"
    assert {path.name: path.read_text().strip() for path in folder.iterdir()} == secrets
    stack.remove()


@pytest.mark.usefixtures("stack")
@pytest.mark.parametrize("image", ["scheduler", "notifier", "maintenance"])
def test_an_image_is_small_has_no_build_tools_and_no_secret_in_its_history(image: str) -> None:
    name = f"taskbell-{image}:dev"
    (made,) = json.loads(subprocess.run(["docker", "inspect", name], capture_output=True, check=True).stdout)
    assert made["Config"]["User"] == "10001:10001"
    assert made["Config"]["Entrypoint"] == ["taskbell"]
    assert made["Config"]["Labels"]["org.opencontainers.image.title"] == f"taskbell-{image}"
    history = subprocess.run(
        ["docker", "history", "--no-trunc", "--format", "{{.CreatedBy}}", name],
        capture_output=True,
        text=True,
        check=True,
    )
    told = history.stdout + json.dumps(made["Config"]["Env"])
    assert not re.search(r"password|secret|change-me|amqp://|postgresql://", told, re.IGNORECASE)
    sizes = {it: _size(it) for it in (name, "python:3.13-slim-trixie")}
    above = (sizes[name] - sizes["python:3.13-slim-trixie"]) / 1e6
    print(f"{image}: {above:.0f} MB above its base image")
    assert above < LARGEST.get(image, 160)
    listed = subprocess.run(
        ["docker", "run", "--rm", "--entrypoint", "python", name, "-c", _FOUND],
        capture_output=True,
        text=True,
        check=True,
    )
    assert listed.stdout.strip() == "[]"


_FOUND = """
import shutil
from importlib.metadata import distributions
tools = {"pip", "setuptools", "wheel", "hatchling", "pytest", "ruff", "mypy"}
own = [it.metadata["Name"] for it in distributions(path=["/opt/taskbell/lib/python3.13/site-packages"])]
print([it for it in own if it in tools] + [it for it in ("gcc", "cc", "make") if shutil.which(it)])
"""


def _size(image: str) -> int:
    shown = subprocess.run(
        ["docker", "image", "inspect", "--format", "{{.Size}}", image], capture_output=True, text=True, check=True
    )
    return int(shown.stdout)
