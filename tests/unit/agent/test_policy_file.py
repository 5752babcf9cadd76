"""Policies as people write them: what is read, and what is refused with which words."""

from __future__ import annotations

from math import inf
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.policy import (
    Checks,
    Direction,
    Pause,
    Policy,
    QuantileCheck,
    RateCheck,
    ScoreCheck,
    SetWeight,
)
from agent.policy_file import PolicyError, load_policy, parse_policy, to_document

WHOLE = """
route: rag
steps:
  - setWeight: 5
  - pause: {duration: 10m}
  - setWeight: 25
  - pause: {}
  - setWeight: 50
bake: {duration: 1h}
alpha: 0.01
beta: 0.05
lease: 30s
grace: 90s
dwell: 1m30s
holdback: 5%
checks:
  errors:   {margin: 0.005}
  latency:  {quantiles: [0.5, 0.95, 0.99], margin: 10%}
  ttft:     {quantiles: [0.95], margin: 10%}
  score:    {field: relevance_score, margin: 0.02}
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_whole_policy_is_read(tmp_path: Path) -> None:
    assert load_policy(written(tmp_path, WHOLE)) == Policy(
        steps=(SetWeight(500), Pause(600.0), SetWeight(2500), Pause(inf), SetWeight(5000)),
        bake_s=3600.0,
        alpha=0.01,
        beta=0.05,
        lease_s=30.0,
        grace_s=90.0,
        dwell_s=90.0,
        holdback_share_bp=500,
        checks=Checks(
            errors=RateCheck(margin=0.005),
            latency=QuantileCheck(quantiles=(0.5, 0.95, 0.99), margin=0.1),
            ttft=QuantileCheck(quantiles=(0.95,), margin=0.1),
            score=ScoreCheck(field="relevance_score", margin=0.02),
        ),
    )


def test_what_is_absent_takes_the_default() -> None:
    assert parse_policy({}) == Policy()
    assert Policy().steps == (SetWeight(500), SetWeight(2500), SetWeight(5000))
    assert Policy().alpha == 0.05


def test_only_the_checks_that_are_listed_are_judged() -> None:
    checks = parse_policy({"checks": {"score": {}}}).checks
    assert (checks.errors, checks.latency, checks.ttft) == (None, None, None)
    assert checks.score == ScoreCheck()


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"stps": []}, "stps: expected one of"),
        ({"stps": []}, "did you mean 'steps'?"),
        ({"steps": []}, "steps: expected a list of 1 to 100 steps, got []"),
        ({"steps": [{"pause": {}}]}, "steps[0]: expected a setWeight or setMirror first"),
        (
            {"steps": [{"setWeight": 100}]},
            "steps[0].setWeight: expected a percentage of at most 95",
        ),
        ({"steps": [{"setWeight": 0}]}, "steps[0].setWeight"),
        ({"steps": [{"setWeight": True}]}, "steps[0].setWeight"),
        ({"steps": [{"setWeight": 5.001}]}, "in steps of 0.01"),
        ({"steps": [{"setWeight": 5, "pause": {}}]}, "steps[0]: expected one of setWeight"),
        ({"steps": [{"setWeight": 5}, {"pause": {"duraton": "1m"}}]}, "steps[1].pause.duraton"),
        ({"steps": [{"setWeight": 5}, {"pause": {"duration": "1 m"}}]}, "got 1 m"),
        ({"bake": "1h"}, "bake: expected a mapping with 'duration', got 1h"),
        ({"bake": {}}, "bake: expected {duration: 1h}"),
        ({"alpha": 0}, "alpha: expected a chance between 0 and 1"),
        ({"beta": 1.5}, "beta: expected a chance between 0 and 1"),
        ({"alpha": "5%"}, "alpha: expected"),
        ({"lease": "0s"}, "lease: expected a duration between 1s and 1h"),
        ({"lease": -3}, "lease: expected"),
        ({"holdback": "60%"}, "holdback: expected a percentage from 0 to 50"),
        ({"checks": {}}, "checks: expected at least one of"),
        ({"checks": {"error": {}}}, "checks.error: expected one of"),
        ({"checks": {"latency": {"margin": "0%"}}}, "checks.latency.margin: expected a share"),
        ({"checks": {"latency": {"quantiles": [0.5, 0.5]}}}, "quantiles that differ"),
        ({"checks": {"latency": {"quantiles": [95]}}}, "checks.latency.quantiles[0]"),
        ([], "expected a mapping"),
        ({"sampleRatioTolerance": 0.5}, "expected a ratio of odds"),
        ({"settle": "1.5s"}, "settle: expected whole seconds"),
        ({"alpha": 10**400}, "alpha: expected a chance"),
        ({"block": f"{10**400}s"}, "block: expected a duration"),
    ],
)
def test_what_is_not_understood_is_refused_by_place(document: object, expected: str) -> None:
    with pytest.raises(PolicyError) as refused:
        parse_policy(document, source="policy.yaml")
    assert str(refused.value).startswith("policy.yaml: ")
    assert expected in str(refused.value)


def test_a_policy_for_another_route_is_refused() -> None:
    assert parse_policy({"route": "rag"}, route="rag") == Policy()
    with pytest.raises(PolicyError, match="route: expected 'rag', the route of the release, got x"):
        parse_policy({"route": "x"}, route="rag")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("alpha: 0.1\nalpha: 0.2\n", "'alpha' is given twice"),
        ("steps: [", "not YAML"),
        ("steps: " + "[" * 5_000, "not YAML"),
        ("grace: 2026-13-45", "not YAML: month must be in 1..12"),
        ("grace: !!timestamp soon", "not YAML"),
        ("grace: !!float ", "not YAML"),
        ("grace: !!bool maybe", "not YAML"),
        ("? [steps]\n: 1", "expected a word as the key"),
        ("x" * 300_000, "more than 262144 bytes"),
    ],
)
def test_a_file_that_is_no_policy_is_refused(tmp_path: Path, text: str, expected: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(PolicyError) as refused:
        load_policy(path)
    assert str(path) in str(refused.value)
    assert expected in str(refused.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="cannot be read"):
        load_policy(tmp_path / "none.yaml")


weights = st.integers(1, 9500).map(SetWeight)
pauses = st.one_of(st.just(Pause()), st.floats(0.001, 1e6).map(Pause))
policies = st.builds(
    Policy,
    steps=st.tuples(weights, pauses, weights, pauses),
    bake_s=st.floats(0, 1e6),
    alpha=st.floats(1e-6, 0.999),
    beta=st.floats(1e-6, 0.999),
    lease_s=st.floats(1, 3600),
    grace_s=st.floats(0, 1e5),
    dwell_s=st.floats(0, 1e5),
    holdback_share_bp=st.integers(0, 5000),
    block_s=st.integers(1, 300),
    settle_s=st.integers(1, 300),
    sample_ratio_tolerance=st.floats(1, 10),
    checks=st.builds(
        Checks,
        errors=st.one_of(st.none(), st.builds(RateCheck, margin=st.floats(1e-6, 1))),
        latency=st.just(QuantileCheck()),
        score=st.one_of(st.none(), st.just(ScoreCheck(field="ndcg", margin=0.1))),
    ),
)


@given(policies)
def test_what_is_remembered_reads_back_as_the_same_policy(policy: Policy) -> None:
    assert parse_policy(to_document(policy)) == policy


def test_every_check_has_its_defaults_and_its_own_words() -> None:
    document = {
        "checks": {
            "errors": {"margin": 0, "tolerance": 1},
            "client_errors": None,
            "gaps": {"margin": "30%"},
            "answer_length": {"direction": "down"},
            "score": {"field": "grade", "comparable": False},
        }
    }
    checks = parse_policy(document).checks
    assert checks.errors == RateCheck(margin=0, tolerance=1)
    assert checks.client_errors == RateCheck(margin=0.01)
    assert checks.gaps == QuantileCheck(quantiles=(0.5, 0.95), margin=0.3)
    assert checks.answer_length is not None
    assert checks.answer_length.direction is Direction.DOWN
    assert checks.score == ScoreCheck(field="grade", comparable=False)
    assert checks.latency is None
    assert parse_policy(to_document(Policy(checks=checks))).checks == checks


@pytest.mark.parametrize(
    ("checks", "message"),
    [
        ({"refusal": {}}, "did you mean 'refusals'"),
        ({"gaps": {"margin": 0}}, "checks.gaps.margin: expected a share above 0"),
        ({"tokens": {"direction": "sideways"}}, "expected one of 'both', 'down', 'up'"),
        ({"score": {"comparable": "perhaps"}}, "score.comparable: expected true or false"),
        ({"errors": {"tolerance": 0.5}}, "errors.tolerance: expected a ratio of odds from 1"),
    ],
)
def test_a_check_that_is_not_understood_is_refused(checks: object, message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        parse_policy({"checks": checks})
