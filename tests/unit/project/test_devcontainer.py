"""The development container can be built from what the repository has, and is given what the Makefile needs."""

import json
import re
from pathlib import Path

import jsonschema

from taskbell_devstack import packages
from taskbell_devstack.ports import RANGE

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / ".devcontainer"
CONFIGURATION = json.loads((FOLDER / "devcontainer.json").read_text())
DOCKERFILE = (FOLDER / "Dockerfile").read_text()

FORWARDING = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "label": {"type": "string"},
        "onAutoForward": {"enum": ["notify", "openBrowser", "openPreview", "silent", "ignore"]},
    },
}
SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["name", "build", "remoteUser", "postCreateCommand"],
    "properties": {
        "name": {"type": "string"},
        "build": {
            "type": "object",
            "additionalProperties": False,
            "required": ["dockerfile"],
            "properties": {"dockerfile": {"type": "string"}},
        },
        "init": {"type": "boolean"},
        "remoteUser": {"type": "string"},
        "hostRequirements": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "cpus": {"type": "integer", "minimum": 1},
                "memory": {"type": "string", "pattern": "^[0-9]+[tgmk]b$"},
            },
        },
        "postCreateCommand": {"type": "string"},
        "portsAttributes": {"type": "object", "additionalProperties": FORWARDING},
        "otherPortsAttributes": FORWARDING,
        "customizations": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "vscode": {
                    "type": "object",
                    "additionalProperties": False,
                    "properties": {
                        "extensions": {"type": "array", "items": {"type": "string", "pattern": "^[a-z-]+[.][a-z-]+$"}},
                        "settings": {"type": "object"},
                    },
                }
            },
        },
    },
}
"""The properties that we use, as the Development Container Specification has them: its own schema is in no package."""


def test_it_has_only_properties_that_the_specification_knows() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(CONFIGURATION, SCHEMA)


def test_its_dockerfile_is_there_and_makes_its_user() -> None:
    assert (FOLDER / CONFIGURATION["build"]["dockerfile"]).is_file()
    assert re.search(rf"useradd .*\b{CONFIGURATION['remoteUser']}\b", DOCKERFILE)


def test_what_runs_after_it_was_made_is_a_target_of_the_makefile() -> None:
    program, target = CONFIGURATION["postCreateCommand"].split()
    assert program == "make"
    assert re.search(rf"^{target}:.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_ports_of_the_demo_are_forwarded() -> None:
    assert list(CONFIGURATION["portsAttributes"]) == [f"{RANGE.start}-{RANGE.stop - 1}"]


def test_servers_of_the_demo_are_installed() -> None:
    """Its user is not root, so that `make demo` could only say what is missing."""
    installed = DOCKERFILE.partition("apt-get install")[2].partition("&&")[0].split()
    for package in ("rabbitmq-server", "postgresql"):
        assert package in packages.how_to_install([package])
        assert package in installed


def test_paths_in_its_settings_are_there() -> None:
    settings = CONFIGURATION["customizations"]["vscode"]["settings"]
    assert [path for path in settings["python.testing.pytestArgs"] if not (ROOT / path).is_dir()] == []
    assert settings["python.defaultInterpreterPath"].startswith("${containerWorkspaceFolder}/.venv/")
