"""The manifests as kustomize would gather them. Nothing is patched: gathering is all there is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2] / "deploy/kubernetes"
OVERLAYS = ("fleet", "sidecar")

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Overlay:
    """What one overlay applies."""

    manifests: list[Manifest]
    configs: dict[str, dict[str, Path]]
    """By ConfigMap and key, the file."""

    def of_kind(self, *kinds: str) -> list[Manifest]:
        return [one for one in self.manifests if one["kind"] in kinds]

    def workloads(self) -> list[Manifest]:
        return self.of_kind("Deployment", "StatefulSet", "DaemonSet", "Job")

    def config(self, name: str) -> Path:
        """The only file of the ConfigMap."""
        (path,) = self.configs[name].values()
        return path


def gather(folder: Path) -> Overlay:
    """A folder's kustomization, with those that it names."""
    known = {"apiVersion", "kind", "resources", "configMapGenerator"}
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text(encoding="utf-8"))
    assert kustomization.keys() <= known, "gather() has to learn what is new in it"
    found = Overlay([], {})
    for name in kustomization["resources"]:
        path = folder / name
        if path.is_dir():
            inner = gather(path)
            found.manifests.extend(inner.manifests)
            found.configs.update(inner.configs)
        else:
            found.manifests.extend(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    for generated in kustomization.get("configMapGenerator", []):
        pairs = (entry.split("=") for entry in generated["files"])
        found.configs[generated["name"]] = {key: folder / file for key, file in pairs}
    return found


def pod(workload: Manifest) -> Manifest:
    spec: Manifest = workload["spec"]["template"]["spec"]
    return spec


def labels(workload: Manifest) -> dict[str, str]:
    found: dict[str, str] = workload["spec"]["template"]["metadata"]["labels"]
    return found


def containers(workload: Manifest) -> Iterator[Manifest]:
    """All of them: those that go before, those beside, those that serve."""
    yield from pod(workload).get("initContainers", [])
    yield from pod(workload)["containers"]


def is_sidecar(container: Manifest) -> bool:
    return container.get("restartPolicy") == "Always"


def selects(selector: Manifest, workload: Manifest) -> bool:
    """Of a NetworkPolicy, a budget or a Deployment: no labels select every pod."""
    assert selector.keys() <= {"matchLabels"}
    return selector.get("matchLabels", {}).items() <= labels(workload).items()
