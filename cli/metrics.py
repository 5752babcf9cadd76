"""What each check has measured, as JSON: for commands that judge a log again. Pure."""

from __future__ import annotations

from math import isfinite
from typing import Any

from agent.judge import CheckResult, Judgement


def metrics_of(judgement: Judgement) -> dict[str, Any]:
    """By check."""
    return {name: _metric(one) for name, one in judgement.checks.items()}


def _metric(one: CheckResult) -> dict[str, Any]:
    counts: dict[str, Any] = {"candidate": one.candidate_count, "control": one.control_count}
    if one.candidate_bad is not None:
        counts |= {"candidate_bad": one.candidate_bad, "control_bad": one.control_bad}
    return {
        "e_value": _rounded(one.e_value),
        "effect": _rounded(one.effect),
        "interval": None if one.interval is None else [_rounded(bound) for bound in one.interval],
        "counts": counts,
        "candidate": _rounded(one.candidate_value),
        "control": _rounded(one.control_value),
        "noninferiority_e_value": _rounded(one.noninferiority_e_value),
        "still_needed": one.still_needed,
    }


def _rounded(value: float | None) -> float | None:
    """Six digits; what is not known, or has no bound, is null."""
    return None if value is None or not isfinite(value) else float(f"{value:.6g}")
