"""Every manifest against the published schemas of Kubernetes, strictly: `make test-kubernetes`."""

from __future__ import annotations

import copy
import importlib
from typing import Any

import pytest
import yaml

from tests.deploy.kubernetes import OVERLAYS, ROOT, gather

pytestmark = pytest.mark.kubernetes

VERSIONS = ("1.30", "1.37")
"""The oldest on which all that is used is on by default, and the newest with a schema."""

MANIFESTS = [
    pytest.param(one, id=f"{overlay}-{one['kind']}-{one['metadata']['name']}")
    for overlay in OVERLAYS
    for one in gather(ROOT / "overlays" / overlay).manifests
]


def validate(manifest: dict[str, Any], version: str) -> None:
    importlib.import_module("kubernetes_validate").validate(manifest, version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("manifest", MANIFESTS)
def test_a_manifest_is_valid(manifest: dict[str, Any], version: str) -> None:
    validate(manifest, version)


def test_a_misspelt_field_is_found() -> None:
    """Or the test above tests nothing."""
    text = (ROOT / "base/agent.yaml").read_text(encoding="utf-8")
    manifest = copy.deepcopy(next(iter(yaml.safe_load_all(text))))
    container = manifest["spec"]["template"]["spec"]["containers"][0]
    container["livenesProbe"] = container.pop("livenessProbe")
    with pytest.raises(Exception, match="livenesProbe"):
        validate(manifest, VERSIONS[0])
