"""What is handed to systemd and Kubernetes names only what exists, and is as closed as it can be."""

import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import kubernetes_validate
import pytest
import yaml
from starlette.routing import Route
from tests.support.services import services, variables
from typer.main import get_command

from taskbell.cli.setup import app as setup_command
from taskbell.health import Health
from taskbell.http import operations
from taskbell.metrics import Metrics
from taskbell.service import CLOSE, GRACE
from taskbell.settings import CommonSettings, load
from taskbell.setup.run import SetupSettings

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"
SYSTEMD = ROOT / "deploy" / "systemd"

NAMES = sorted(services())
DRAIN = 30
"""Seconds within which a service ends after SIGTERM."""

SCHEMAS = ("1.29", kubernetes_validate.latest_version())
"""The oldest Kubernetes that we say it runs on, and the newest whose schemas we have."""

PATHS = {route.path for route in operations(Health(), Metrics()) if isinstance(route, Route)}


def settings_of(name: str) -> type[CommonSettings]:
    return SetupSettings if name == "setup" else services()[name].settings


def known_variables() -> set[str]:
    return {variable for name in [*NAMES, "setup"] for variable in variables(settings_of(name))}


def image_environment() -> dict[str, str]:
    """The settings that the Dockerfile sets."""
    found = re.findall(r"\b([A-Z][A-Z_]*)=(\S+)", (ROOT / "Dockerfile").read_text())
    return {name: value for name, value in found if name in known_variables()}


# ── Kubernetes ──────────────────────────────────────────────────────────────────────────────────────────────────────


class Manifest(NamedTuple):
    """One object of a file."""

    file: str
    body: dict[str, Any]

    @property
    def kind(self) -> str:
        return str(self.body["kind"])

    @property
    def name(self) -> str:
        return str(self.body["metadata"]["name"])

    @property
    def pod(self) -> dict[str, Any]:
        return dict(self.body["spec"]["template"]["spec"])

    @property
    def container(self) -> dict[str, Any]:
        (only,) = self.pod["containers"]
        return dict(only)


KUSTOMIZATION = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())
MANIFESTS = [
    Manifest(path.name, body)
    for path in sorted(KUBERNETES.glob("*.yaml"))
    if path.name != "kustomization.yaml"
    for body in yaml.safe_load_all(path.read_text())
]
WORKLOADS = [it for it in MANIFESTS if it.kind in {"Deployment", "Job"}]
DEPLOYMENTS = [it for it in WORKLOADS if it.kind == "Deployment"]


def named(manifest: Manifest) -> str:
    return f"{manifest.kind} {manifest.name}"


def role_of(manifest: Manifest) -> str:
    return manifest.name.removeprefix("taskbell-")


def of_kind(kind: str) -> dict[str, dict[str, Any]]:
    return {it.name: it.body for it in MANIFESTS if it.kind == kind}


def ports_of(manifest: Manifest) -> dict[str, int]:
    return {port["name"]: port["containerPort"] for port in manifest.container.get("ports", [])}


def given_to(manifest: Manifest) -> dict[str, str]:
    """The variables that its container gets, with a secret of some length for each that is to be filled in."""
    given: dict[str, str] = {}
    for source in manifest.container["envFrom"]:
        if "configMapRef" in source:
            given |= of_kind("ConfigMap")[source["configMapRef"]["name"]]["data"]
        else:
            secrets = of_kind("Secret")[source["secretRef"]["name"]]["stringData"]
            given |= {name: secret.replace("…", "x" * 32) for name, secret in secrets.items()}
    return given


def test_there_is_a_deployment_for_each_service_and_a_job_for_setup() -> None:
    assert [it.name for it in DEPLOYMENTS] == sorted(f"taskbell-{name}" for name in NAMES)
    assert [it.name for it in WORKLOADS if it.kind == "Job"] == ["taskbell-setup"]


@pytest.mark.parametrize("version", SCHEMAS)
@pytest.mark.parametrize("manifest", MANIFESTS, ids=named)
def test_every_manifest_is_as_kubernetes_wants_it(manifest: Manifest, version: str) -> None:
    kubernetes_validate.validate(manifest.body, version, strict=True)


def test_kustomize_takes_every_manifest_but_the_example_of_secrets() -> None:
    assert sorted(KUSTOMIZATION["resources"]) == sorted({it.file for it in MANIFESTS} - {"secrets.example.yaml"})


def test_images_are_those_that_the_dockerfile_makes() -> None:
    assert [image["name"] for image in KUSTOMIZATION["images"]] == [
        f"taskbell-{name}" for name in ("scheduler", "notifier", "maintenance")
    ]
    assert {it.name: it.container["image"] for it in DEPLOYMENTS} == {it.name: it.name for it in DEPLOYMENTS}
    (job,) = (it for it in WORKLOADS if it.kind == "Job")
    assert job.container["image"] in {image["name"] for image in KUSTOMIZATION["images"]}


@pytest.mark.parametrize("workload", WORKLOADS, ids=named)
def test_settings_that_a_container_gets_are_all_that_it_needs(
    workload: Manifest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in known_variables():
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(f"{name}_FILE", raising=False)
    monkeypatch.chdir(tmp_path)  # where there is no .env
    for name, value in (image_environment() | given_to(workload)).items():
        monkeypatch.setenv(name, value)
    assert load(settings_of(role_of(workload))).taskbell_env == "production"


def test_every_variable_is_a_setting() -> None:
    for name, body in of_kind("ConfigMap").items():
        assert set(body["data"]) <= known_variables(), name


@pytest.mark.parametrize("workload", WORKLOADS, ids=named)
def test_nobody_is_given_a_secret_that_it_does_not_read(workload: Manifest) -> None:
    secret = of_kind("Secret")[workload.name]
    assert set(secret["stringData"]) <= set(variables(settings_of(role_of(workload))))
    assert {"secretRef": {"name": workload.name}} in workload.container["envFrom"]


AUTHORITY = Path("/etc/taskbell/ca/ca.pem")


@pytest.mark.parametrize("workload", WORKLOADS, ids=named)
def test_the_example_checks_who_its_servers_are(workload: Manifest) -> None:
    given = of_kind("Secret")[workload.name]["stringData"]
    assert parse_qs(urlsplit(given["DATABASE_URL"]).query) == {"sslmode": ["verify-full"]}
    broker = urlsplit(given["BROKER_URL"])
    assert (broker.scheme, parse_qs(broker.query)) == ("amqps", {"cafile": [str(AUTHORITY)]})
    assert urlsplit(given.get("BROKER_MANAGEMENT_URL", "https:")).scheme == "https"


@pytest.mark.parametrize("workload", WORKLOADS, ids=named)
def test_a_container_is_given_the_authority_that_it_checks_against(workload: Manifest) -> None:
    source = {"configMapKeyRef": {"name": "taskbell-ca", "key": "path", "optional": True}}
    read = {variable["name"]: variable["valueFrom"] for variable in workload.container["env"]}
    wanted = ["PGSSLROOTCERT", *(["SSL_CERT_FILE"] if workload.kind == "Job" else [])]
    assert read == dict.fromkeys(wanted, source)
    mounts = {it["name"]: it["mountPath"] for it in workload.container["volumeMounts"]}
    assert mounts["ca"] == str(AUTHORITY.parent)
    (volume,) = (it for it in workload.pod["volumes"] if it["name"] == "ca")
    assert volume["configMap"] == {"name": "taskbell-ca", "optional": True}


@pytest.mark.parametrize("workload", WORKLOADS, ids=named)
def test_a_container_may_do_as_little_as_possible(workload: Manifest) -> None:
    pod, container = workload.pod["securityContext"], workload.container["securityContext"]
    assert pod["runAsNonRoot"] is True
    assert pod["runAsUser"] > 0
    assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert workload.pod["automountServiceAccountToken"] is False
    assert container == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert "memory" in workload.container["resources"]["limits"]


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=named)
def test_a_pod_is_not_killed_while_it_drains(deployment: Manifest) -> None:
    hook = deployment.container.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", ["sleep", "0"])
    assert hook[0] == "sleep"
    assert deployment.pod["terminationGracePeriodSeconds"] > DRAIN + int(hook[1])


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=named)
def test_probes_ask_what_is_served(deployment: Manifest) -> None:
    asked = {probe: deployment.container[f"{probe}Probe"]["httpGet"] for probe in ("readiness", "liveness", "startup")}
    assert {probe: request["path"] for probe, request in asked.items()} == {
        "readiness": "/readyz",
        "liveness": "/livez",
        "startup": "/livez",
    }
    assert {request["path"] for request in asked.values()} <= PATHS
    assert {request["port"] for request in asked.values()} == {"http"}


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=named)
def test_ports_are_those_that_the_settings_give(deployment: Manifest) -> None:
    given = image_environment() | given_to(deployment)
    ports = ports_of(deployment)
    assert ports.pop("http") == int(given["HTTP_PORT"])
    assert list(ports.values()) == ([int(given["PUBLIC_PORT"])] if role_of(deployment) == "notifier" else [])
    annotations = deployment.body["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == given["HTTP_PORT"]
    assert annotations["prometheus.io/path"] in PATHS


def test_the_world_reaches_the_notifiers_public_port_only() -> None:
    (service,) = of_kind("Service").values()
    assert [port["targetPort"] for port in service["spec"]["ports"]] == ["public"]
    open_to_all = [
        (policy["spec"]["podSelector"]["matchLabels"], [port["port"] for port in rule["ports"]])
        for policy in of_kind("NetworkPolicy").values()
        for rule in policy["spec"]["ingress"]
        if "from" not in rule
    ]
    assert open_to_all == [({"app.kubernetes.io/name": "taskbell-notifier"}, ["public"])]


def test_selectors_choose_pods_that_there_are() -> None:
    pods = {it.name: it.body["spec"]["template"]["metadata"]["labels"] for it in WORKLOADS}
    selectors = {
        f"{it.kind} {it.name}": selector
        for it in MANIFESTS
        for selector in _selectors(it.body.get("spec", {}), kind=it.kind)
    }
    assert len(selectors) == len([it for it in MANIFESTS if it.kind not in {"Namespace", "ConfigMap", "Secret", "Job"}])
    for who, selector in selectors.items():
        assert [name for name, labels in pods.items() if selector.items() <= labels.items()], who
    for it in DEPLOYMENTS:
        assert it.body["spec"]["selector"]["matchLabels"].items() <= pods[it.name].items()
        for constraint in it.pod["topologySpreadConstraints"]:
            assert constraint["labelSelector"] == it.body["spec"]["selector"]


def _selectors(spec: dict[str, Any], *, kind: str) -> Iterator[dict[str, str]]:
    if kind == "NetworkPolicy":
        yield spec["podSelector"]["matchLabels"]
    elif kind == "Service":
        yield spec["selector"]
    elif "selector" in spec:
        yield spec["selector"]["matchLabels"]


def test_one_copy_of_each_service_always_stays() -> None:
    assert {name: budget["spec"]["minAvailable"] for name, budget in of_kind("PodDisruptionBudget").items()} == {
        it.name: 1 for it in DEPLOYMENTS
    }
    assert {it.body["spec"]["replicas"] for it in DEPLOYMENTS} == {2}


def test_setup_is_called_as_the_command_line_wants_it() -> None:
    (job,) = (it for it in WORKLOADS if it.kind == "Job")
    called(job.container["args"])


def called(arguments: list[str]) -> None:
    """Raises click's error where `taskbell` would not take these arguments."""
    assert arguments[0] == "setup"
    get_command(setup_command).make_context("setup", arguments[1:])


# ── systemd ─────────────────────────────────────────────────────────────────────────────────────────────────────────

UNIT_OF = {name: (SYSTEMD / f"taskbell-{name}.service").read_text() for name in [*NAMES, "setup"]}


def lines_of(unit: str) -> list[str]:
    return [line for line in unit.splitlines() if line and not line.startswith("#")]


def values(unit: str, key: str) -> list[str]:
    return [line.partition("=")[2] for line in lines_of(unit) if line.partition("=")[0] == key]


def value(unit: str, key: str) -> str:
    (only,) = values(unit, key)
    return only


def test_there_is_a_unit_for_each_service_setup_and_all_together() -> None:
    assert {path.name for path in SYSTEMD.iterdir()} == {
        *(f"taskbell-{name}.service" for name in UNIT_OF),
        "taskbell.target",
    }


def test_the_services_units_differ_only_in_what_is_theirs() -> None:
    alike = {
        re.sub(r"^(Description|Environment=HTTP_PORT)=.*$", r"\1", unit, flags=re.MULTILINE).replace(name, "NAME")
        for name, unit in UNIT_OF.items()
        if name != "setup"
    }
    assert len(alike) == 1


def test_each_service_has_a_port_of_its_own() -> None:
    ports = [value(UNIT_OF[name], "Environment") for name in NAMES]
    assert all(re.fullmatch(r"HTTP_PORT=80\d\d", port) for port in ports)
    assert len(set(ports)) == len(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_unit_runs_a_module_that_exists(name: str) -> None:
    program, option, module = value(UNIT_OF[name], "ExecStart").split()
    assert (program, option) == ("/opt/taskbell/bin/python", "-m")
    assert find_spec(f"{module}.__main__") is not None
    assert module == f"taskbell_{name}"


@pytest.mark.parametrize("name", NAMES)
def test_systemd_waits_for_readiness_watches_and_lets_it_drain(name: str) -> None:
    unit = UNIT_OF[name]
    assert value(unit, "Type") == "notify"
    assert value(unit, "KillSignal") == "SIGTERM"
    assert value(unit, "Restart") == "always"
    assert value(unit, "StartLimitIntervalSec") == "0"
    assert seconds(value(unit, "TimeoutStopSec")) > DRAIN
    # While it drains it says nothing more.
    assert seconds(value(unit, "WatchdogSec")) > GRACE + CLOSE


def seconds(span: str) -> int:
    match = re.fullmatch(r"(\d+)s", span)
    assert match, span
    return int(match[1])


def test_variables_in_units_are_settings() -> None:
    for name, unit in UNIT_OF.items():
        for variable in re.findall(r"^#?Environment=([A-Z_]+)=", unit, re.MULTILINE):
            assert variable.removesuffix("_FILE") in variables(settings_of(name)), name


def test_setup_comes_before_the_services_and_is_started_by_hand_alone() -> None:
    setup = UNIT_OF["setup"]
    program, *arguments = value(setup, "ExecStart").split()
    assert program == "/opt/taskbell/bin/taskbell"
    called(arguments)
    assert set(value(setup, "Before").split()) == {f"taskbell-{name}.service" for name in NAMES}
    assert "[Install]" not in setup
    target = (SYSTEMD / "taskbell.target").read_text()
    assert set(value(target, "Wants").split()) == {f"taskbell-{name}.service" for name in NAMES}
    assert {value(UNIT_OF[name], "PartOf") for name in NAMES} == {"taskbell.target"}


def test_setup_is_as_closed_as_the_services() -> None:
    closed = [hardening(unit) for unit in UNIT_OF.values()]
    assert closed[0]
    assert all(lines == closed[0] for lines in closed)


def hardening(unit: str) -> list[str]:
    lines = lines_of(unit)
    rest = lines[lines.index("DynamicUser=yes") :]
    return rest[: rest.index("[Install]")] if "[Install]" in rest else rest
