"""Whatever somebody writes into a file of ours: read, or refused with words; never half."""

from __future__ import annotations

import yaml

from agent.policy_file import PolicyError, parse_policy, read_policy, to_document
from gateway.config import parse
from mlops.contracts.plan import MAX_CANARY_SHARE_BP

ENVIRON = {"GATEWAY_OPERATOR_TOKEN": "operator", "GATEWAY_VIEWER_TOKEN": "viewer"}
MAX_REASON_CHARS = 16 * 1024
"""Of an error; it may quote what came, which is not longer than an input."""


def _has_words(error: Exception) -> None:
    assert 0 < len(str(error)) <= MAX_REASON_CHARS, error


def check_gateway_file(data: bytes) -> None:
    try:
        settings = parse(data.decode(), ENVIRON)
    except ValueError as error:
        _has_words(error)
        return
    assert settings.routes
    assert len({route.name for route in settings.routes}) == len(settings.routes)
    for route in settings.routes:
        assert route.stable.endpoints
        assert 0 <= route.canary_share_bp <= route.max_canary_share_bp <= MAX_CANARY_SHARE_BP
    assert parse(data.decode(), ENVIRON) == settings


def check_policy(data: bytes) -> None:
    try:
        policy = read_policy(data, source="policy.yaml")
    except PolicyError as error:
        _has_words(error)
        return
    document = to_document(policy)
    assert parse_policy(document) == policy, "what the agent remembers is another policy"
    assert parse_policy(yaml.safe_load(yaml.safe_dump(document))) == policy
