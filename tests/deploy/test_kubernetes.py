"""deploy/kubernetes: the rules that a schema does not know. The schemas: `make test-kubernetes`."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from msgspec import convert

from agent import settings as agent_settings
from gateway import config as gateway_config
from gateway.file_values import Size
from tests.deploy.kubernetes import (
    OVERLAYS,
    ROOT,
    Overlay,
    containers,
    gather,
    is_sidecar,
    labels,
    pod,
    selects,
)

TOKENS = {
    "GATEWAY_OPERATOR_TOKEN": "one",
    "GATEWAY_VIEWER_TOKEN": "two",
    "AGENT_OPERATOR_TOKEN": "three",
    "AGENT_VIEWER_TOKEN": "four",
}
NOT_SECRET = {"MLOPS_MINIO_CACHE_DIR": "/registered/cache", "MLOPS_MINIO_CACHE_SIZE": "512MiB"}
MARGIN_S = 10
"""Of a pod's time to end: for processes to start ending and to be gone."""


@pytest.fixture(params=OVERLAYS)
def overlay(request: pytest.FixtureRequest) -> Overlay:
    return gather(ROOT / "overlays" / str(request.param))


def option(command: list[str], name: str) -> str:
    return command[command.index(name) + 1]


# ---- the folders -------------------------------------------------------------------------------


def test_every_file_is_named_by_a_kustomization() -> None:
    named = set()
    for path in ROOT.rglob("kustomization.yaml"):
        named.add(path)
        kustomization = yaml.safe_load(path.read_text(encoding="utf-8"))
        for resource in kustomization["resources"]:
            named.add((path.parent / resource).resolve())
        for generated in kustomization.get("configMapGenerator", []):
            named |= {path.parent / entry.split("=")[1] for entry in generated["files"]}
    assert {path for path in ROOT.rglob("*") if path.is_file()} <= named
    assert all(path.exists() for path in named)


def test_no_object_stands_twice_and_all_are_in_the_namespace(overlay: Overlay) -> None:
    names = [(one["kind"], one["metadata"]["name"]) for one in overlay.manifests]
    assert len(names) == len(set(names))
    (namespace,) = overlay.of_kind("Namespace")
    for one in overlay.manifests:
        if one is not namespace:
            assert one["metadata"]["namespace"] == namespace["metadata"]["name"]


# ---- the files of the programs -------------------------------------------------------------------


def test_the_gateway_accepts_its_file(overlay: Overlay) -> None:
    settings = gateway_config.load(overlay.config("gateway-config"), TOKENS)
    of_recorder = gateway_config.load(overlay.config("gateway-config"), None)
    assert settings.spool is not None
    assert of_recorder.spool == settings.spool
    assert all(route.managed for route in settings.routes)


def test_the_agent_accepts_its_file(overlay: Overlay) -> None:
    settings = agent_settings.load(overlay.config("agent-config"), TOKENS)
    assert settings.memory.startswith("postgresql:")
    (gateways,) = settings.gateways
    (headless,) = [one for one in overlay.of_kind("Service") if one["spec"].get("clusterIP")]
    name, space = headless["metadata"]["name"], headless["metadata"]["namespace"]
    assert gateways.is_name
    assert gateways.url == f"http://{name}.{space}.svc:{headless['spec']['ports'][0]['port']}"
    assert headless["spec"]["clusterIP"] == "None"
    assert headless["spec"]["publishNotReadyAddresses"] is True


def test_a_config_is_mounted_where_the_command_looks_for_it(overlay: Overlay) -> None:
    looked_for = 0
    for workload in overlay.workloads():
        volumes = {one["name"]: one for one in pod(workload)["volumes"]}
        for container in containers(workload):
            if "--config" not in container["command"]:
                continue
            looked_for += 1
            folder, _, file = option(container["command"], "--config").rpartition("/")
            (mount,) = [one for one in container["volumeMounts"] if one["mountPath"] == folder]
            assert file in overlay.configs[volumes[mount["name"]]["configMap"]["name"]]
    assert looked_for == 3  # gateway, recorder, agent


def test_every_endpoint_is_a_port_that_is_served(overlay: Overlay) -> None:
    served = {"127.0.0.1:8011"} if "rag-server" in str(overlay.workloads()) else set()
    for service in overlay.of_kind("Service"):
        for port in service["spec"]["ports"]:
            name, space = service["metadata"]["name"], service["metadata"]["namespace"]
            served.add(f"{name}.{space}.svc:{port['port']}")
    for route in gateway_config.load(overlay.config("gateway-config"), TOKENS).routes:
        for endpoint in route.stable.endpoints:
            assert endpoint.removeprefix("http://") in served


# ---- the end of a pod --------------------------------------------------------------------------


def test_a_gateways_pod_has_time_to_end(overlay: Overlay) -> None:
    """Endpoints go, the gateway drains, the recorder stores what is left: in this order."""
    (workload,) = [one for one in overlay.workloads() if "rag-mlops.io/gateway" in labels(one)]
    drain_s = gateway_config.load(overlay.config("gateway-config"), TOKENS).drain_s
    (recorder,) = [one for one in containers(workload) if one["name"] == "recorder"]
    assert is_sidecar(recorder)
    assert recorder in pod(workload)["initContainers"]
    ends_s = {}
    for one in pod(workload)["containers"]:
        ends_s[one["name"]] = one["lifecycle"]["preStop"]["sleep"]["seconds"]
    ends_s["gateway"] += drain_s
    assert ends_s.get("model", ends_s["gateway"]) >= ends_s["gateway"], "the server goes last"
    needed_s = max(ends_s.values()) + float(option(recorder["command"], "--drain")) + MARGIN_S
    assert pod(workload)["terminationGracePeriodSeconds"] >= needed_s


def test_the_spool_fits_into_its_volume(overlay: Overlay) -> None:
    (workload,) = [one for one in overlay.workloads() if "rag-mlops.io/gateway" in labels(one)]
    spool = gateway_config.load(overlay.config("gateway-config"), TOKENS).spool
    assert spool is not None
    (data,) = [one for one in pod(workload)["volumes"] if one["name"] == "data"]
    (gateway,) = [one for one in containers(workload) if one["name"] == "gateway"]
    (mount,) = [one for one in gateway["volumeMounts"] if one["name"] == "data"]
    assert spool.dir.is_relative_to(mount["mountPath"])
    assert spool.limit_bytes < size(data["emptyDir"]["sizeLimit"])
    ephemeral = gateway["resources"]["limits"]["ephemeral-storage"]
    assert size(data["emptyDir"]["sizeLimit"]) < size(ephemeral)


def size(text: str) -> int:
    return convert(f"{text}B", Size, dec_hook=lambda _, value: Size(value)).bytes


# ---- what a container may ------------------------------------------------------------------------


def test_a_container_is_bounded_and_may_nothing(overlay: Overlay) -> None:
    for workload in overlay.workloads():
        spec = pod(workload)
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in containers(workload):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            for kind in ("requests", "limits"):
                assert container["resources"][kind].keys() >= {"cpu", "memory"}
        for volume in spec["volumes"]:
            assert "configMap" in volume or volume["emptyDir"]["sizeLimit"]


def test_an_image_has_a_version(overlay: Overlay) -> None:
    images = {one["image"] for workload in overlay.workloads() for one in containers(workload)}
    for image in images:
        assert re.fullmatch(r"[a-z0-9./-]+:[0-9][\w.-]*", image)


def test_a_container_that_serves_is_probed(overlay: Overlay) -> None:
    """A sidecar has no readiness: it would take a gateway that serves out of its Service."""
    for workload in overlay.of_kind("Deployment"):
        for container in containers(workload):
            if is_sidecar(container):
                assert "livenessProbe" in container
                assert not container.keys() & {"readinessProbe", "startupProbe"}
            elif container in pod(workload)["containers"]:
                assert container.keys() >= {"livenessProbe", "readinessProbe", "startupProbe"}
            for kind in container.keys() & {"livenessProbe", "readinessProbe", "startupProbe"}:
                ports = {port["name"] for port in container["ports"]}
                assert container[kind]["httpGet"]["port"] in ports
    (gateway,) = [
        one
        for workload in overlay.workloads()
        for one in containers(workload)
        if one["name"] == "gateway"
    ]
    assert gateway["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "admin"}
    assert gateway["livenessProbe"]["httpGet"] == {"path": "/livez", "port": "admin"}


def test_no_secret_stands_in_the_tree(overlay: Overlay) -> None:
    assert not overlay.of_kind("Secret")
    for workload in overlay.workloads():
        for container in containers(workload):
            for one in container.get("env", []):
                is_plain = NOT_SECRET.get(one["name"]) == one.get("value")
                assert "valueFrom" in one or is_plain
                assert container["name"] != "recorder" or "TOKEN" not in one["name"]


# ---- what belongs together ----------------------------------------------------------------------


def test_a_selector_finds_its_pods(overlay: Overlay) -> None:
    workloads = overlay.workloads()
    for one in overlay.of_kind("Deployment"):
        assert selects(one["spec"]["selector"], one)
    for one in overlay.of_kind("PodDisruptionBudget"):
        assert sum(selects(one["spec"]["selector"], workload) for workload in workloads) == 1
    for one in overlay.of_kind("Service"):
        chosen = [w for w in workloads if selects({"matchLabels": one["spec"]["selector"]}, w)]
        assert len(chosen) == 1
        ports = ports_of(chosen[0])
        for port in one["spec"]["ports"]:
            assert ports[port["targetPort"]] == port["port"]
    for one in overlay.of_kind("HorizontalPodAutoscaler"):
        (target,) = [
            workload
            for workload in overlay.of_kind(one["spec"]["scaleTargetRef"]["kind"])
            if workload["metadata"]["name"] == one["spec"]["scaleTargetRef"]["name"]
        ]
        assert "replicas" not in target["spec"], "the autoscaler owns them"
        (metric,) = one["spec"]["metrics"]
        names = [container["name"] for container in pod(target)["containers"]]
        assert metric["containerResource"]["container"] in names


def ports_of(workload: dict[str, Any]) -> dict[str, int]:
    """By name; a name stands once in a pod, and a port too."""
    found = [
        (port["name"], port["containerPort"])
        for container in containers(workload)
        for port in container.get("ports", [])
    ]
    assert len(dict(found)) == len({port for _, port in found}) == len(found)
    return dict(found)


def test_what_serves_survives_a_node(overlay: Overlay) -> None:
    """A budget each, spread over nodes and zones; nothing ends before its successor serves."""
    for workload in overlay.of_kind("Deployment"):
        budgets = overlay.of_kind("PodDisruptionBudget")
        assert any(selects(one["spec"]["selector"], workload) for one in budgets)
        assert workload["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
        spread = pod(workload)["topologySpreadConstraints"]
        assert {one["topologyKey"] for one in spread} == {
            "topology.kubernetes.io/zone",
            "kubernetes.io/hostname",
        }
        for one in spread:
            assert selects(one["labelSelector"], workload)
    (agent,) = [one for one in overlay.workloads() if one["metadata"]["name"] == "agent"]
    assert agent["spec"]["replicas"] == 2


# ---- who may reach whom --------------------------------------------------------------------------


def test_everything_is_denied_and_each_workload_has_its_own_rule(overlay: Overlay) -> None:
    policies = {one["metadata"]["name"]: one["spec"] for one in overlay.of_kind("NetworkPolicy")}
    assert policies.pop("default-deny") == {
        "podSelector": {},
        "policyTypes": ["Ingress", "Egress"],
    }
    named = [one for one in policies.values() if one["podSelector"]]
    for workload in overlay.workloads():
        assert any(selects(one["podSelector"], workload) for one in named)
    for one in named:
        assert any(selects(one["podSelector"], workload) for workload in overlay.workloads())


def test_a_port_that_is_open_is_served_and_one_that_is_served_is_open(overlay: Overlay) -> None:
    opened = {name: set[int]() for name in (one["metadata"]["name"] for one in overlay.workloads())}
    policies = [one["spec"] for one in overlay.of_kind("NetworkPolicy")]
    for workload in overlay.workloads():
        for policy in policies:
            if selects(policy["podSelector"], workload):
                for rule in policy.get("ingress", []):
                    assert rule["from"], "somebody is named"
                    ports = {port["port"] for port in rule["ports"]}
                    opened[workload["metadata"]["name"]] |= ports
        assert opened[workload["metadata"]["name"]] >= set(ports_of(workload).values())


def test_what_may_be_left_may_be_entered(overlay: Overlay) -> None:
    """A rule between two of our pods stands on both sides."""
    policies = [one["spec"] for one in overlay.of_kind("NetworkPolicy")]
    checked = 0
    for leaving in policies:
        sources = [one for one in overlay.workloads() if selects(leaving["podSelector"], one)]
        for rule in leaving.get("egress", []):
            for to in rule.get("to", []):
                if "podSelector" not in to:
                    continue
                targets = [one for one in overlay.workloads() if selects(to["podSelector"], one)]
                assert targets
                checked += 1
                for source in sources:
                    assert all(may_enter(policies, source, target) for target in targets)
    assert checked >= 3


def may_enter(
    policies: list[dict[str, Any]], source: dict[str, Any], target: dict[str, Any]
) -> bool:
    peers = [
        peer["podSelector"]
        for policy in policies
        if policy["podSelector"] and selects(policy["podSelector"], target)
        for rule in policy.get("ingress", [])
        for peer in rule["from"]
        if "podSelector" in peer
    ]
    return any(selects(peer, source) for peer in peers)
