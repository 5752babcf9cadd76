"""deploy/kubernetes as kustomize itself builds it: `make test-kubernetes` brings it, in kubectl."""

from __future__ import annotations

import importlib
import re
import subprocess
from functools import cache
from typing import Any

import pytest
import yaml

from tests.deploy.kubernetes import OVERLAYS, ROOT, gather

pytestmark = [pytest.mark.kubernetes, pytest.mark.parametrize("overlay", OVERLAYS)]

KUBECTL = ROOT.parents[1] / ".venv/kubectl/kubectl"
HASHED = re.compile(r"-[a-z0-9]{10}$")
"""What kustomize adds to the name of a ConfigMap, so that a change of it restarts its pods."""


@cache
def built(overlay: str) -> list[dict[str, Any]]:
    done = subprocess.run(
        [KUBECTL, "kustomize", ROOT / "overlays" / overlay],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr, "kustomize warns of what is deprecated"
    return list(yaml.safe_load_all(done.stdout))


def test_it_builds_what_the_other_tests_gather(overlay: str) -> None:
    gathered = gather(ROOT / "overlays" / overlay)
    expected = {(one["kind"], one["metadata"]["name"]) for one in gathered.manifests}
    expected |= {("ConfigMap", name) for name in gathered.configs}
    found = {
        (
            one["kind"],
            HASHED.sub("", one["metadata"]["name"])
            if one["kind"] == "ConfigMap"
            else one["metadata"]["name"],
        )
        for one in built(overlay)
    }
    assert found == expected
    assert len(built(overlay)) == len(expected)


def test_pods_mount_the_files_by_the_names_that_change_with_them(overlay: str) -> None:
    made = {one["metadata"]["name"] for one in built(overlay) if one["kind"] == "ConfigMap"}
    mounted = set(re.findall(r"'configMap': \{[^}]*'name': '([^']+)'", str(built(overlay))))
    assert mounted == made
    assert all(HASHED.search(name) for name in made)


@pytest.mark.parametrize("version", ["1.30", "1.37"])
def test_what_is_built_is_valid(overlay: str, version: str) -> None:
    validate = importlib.import_module("kubernetes_validate").validate
    for one in built(overlay):
        validate(one, version, strict=True)
