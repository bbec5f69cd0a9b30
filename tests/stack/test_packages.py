"""examples/Dockerfile: packages that extend Taskbell, added to its images."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stack.compose import ROOT, Compose
from tests.support.packages import build_wheel

PACKAGES = ("unassigned", "assigned")


def docker(*arguments: str | Path) -> str:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheels of the examples."""
    folder = tmp_path_factory.mktemp("dist")
    for name in PACKAGES:
        build_wheel(ROOT / "examples" / name, folder)
    return folder


@pytest.fixture(scope="module")
def images(stack: Compose, wheels: Path) -> Iterator[dict[str, str]]:
    """By service, its image with the packages."""
    made = {service: f"taskbell-packages-{service}-{os.getpid()}" for service in ("setup", "notifier")}
    for service, name in made.items():
        base = f"BASE={stack.inspect(service)[0]['Config']['Image']}"
        docker("build", "-f", ROOT / "examples" / "Dockerfile", "--build-arg", base, "-t", name, wheels)
    yield made
    docker("image", "rm", "--force", *made.values())


@pytest.mark.parametrize("service", ["setup", "notifier"])
def test_an_image_has_the_packages_and_is_otherwise_as_it_was(images: dict[str, str], service: str) -> None:
    image = images[service]
    listed = {it["routing_key"]: it["package"] for it in json.loads(docker("run", "--rm", image, "messages", "--json"))}
    assert listed["unassigned.due"] == "taskbell-unassigned"
    assert listed["task.assigned"] == "taskbell-assigned"
    assert listed["weekly.due"] == "taskbell"
    config = json.loads(docker("image", "inspect", image))[0]["Config"]
    assert (config["User"], config["Entrypoint"], config["Cmd"]) == ("10001:10001", ["taskbell"], ["run", "all"])


def test_the_notifier_of_such_an_image_knows_what_its_mails_say(images: dict[str, str]) -> None:
    shown = docker("run", "--rm", images["notifier"], "mail", "preview", "unassigned")
    assert shown.startswith("Subject: 2 tasks are unassigned\n")
