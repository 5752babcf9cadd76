"""What a decision was made on, as the journal keeps it: enough to check it and to repeat it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import msgspec

from agent.release import Picture, Release

HASH_CHARS = 12


def inputs_of(release: Release, picture: Picture, code: str) -> dict[str, Any]:
    """Counts, verdict, gates, the policy's hash and the code's version."""
    judgement = picture.judgement
    found: dict[str, Any] = {
        "code": code,
        "policy": policy_hash(release.policy),
        "closed_through": int(picture.closed_through_s),
        "gateways": {name: plan.generation for name, plan in picture.answering},
    }
    if judgement is not None:
        found["verdict"] = judgement.verdict.value
        found["e_value"] = judgement.e_value
        found["reasons"] = list(judgement.reasons)
        found["checks"] = {name: asdict(one) for name, one in judgement.checks.items()}
    answered = {name: one for name, one in picture.gates.items() if one is not None}
    if answered:
        found["gates"] = {
            name: {"passed": one.passed, "why": one.why} for name, one in answered.items()
        }
    return found


def policy_hash(document: Mapping[str, Any]) -> str:
    """Equal for equal policies, whatever the order of their keys."""
    return sha256(msgspec.json.encode(document, order="deterministic")).hexdigest()[:HASH_CHARS]


def code_version() -> str:
    """The package's version, and a digest of the code that decides. Reads files: at start only."""
    digest = sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    try:
        named = version("rag-mlops")
    except PackageNotFoundError:  # run from a checkout
        named = "checkout"
    return f"{named}+{digest.hexdigest()[:HASH_CHARS]}"
