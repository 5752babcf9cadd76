"""What each check has measured: for commands that judge a log again. Pure."""

from __future__ import annotations

from math import isfinite

from msgspec import UNSET

from agent.judge import CheckResult, Judgement
from cli.shapes import Counts, Metric


def metrics_of(judgement: Judgement) -> dict[str, Metric]:
    """By check."""
    return {name: _metric(one) for name, one in judgement.checks.items()}


def _metric(one: CheckResult) -> Metric:
    low, high = (None, None) if one.interval is None else map(_rounded, one.interval)
    return Metric(
        e_value=_rounded(one.e_value),
        effect=_rounded(one.effect),
        interval=None if one.interval is None else (low, high),
        counts=Counts(
            candidate=one.candidate_count,
            control=one.control_count,
            candidate_bad=UNSET if one.candidate_bad is None else one.candidate_bad,
            control_bad=UNSET if one.control_bad is None else one.control_bad,
        ),
        candidate=_rounded(one.candidate_value),
        control=_rounded(one.control_value),
        noninferiority_e_value=_rounded(one.noninferiority_e_value),
        still_needed=one.still_needed,
    )


def _rounded(value: float | None) -> float | None:
    """Six digits; what is not known, or has no bound, is null."""
    return None if value is None or not isfinite(value) else float(f"{value:.6g}")
