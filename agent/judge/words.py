"""The numbers of a check as people read them."""

from __future__ import annotations

from collections.abc import Sequence

from agent.judge.counts import RATE_COUNTS
from agent.judge.results import DURATIONS
from agent.judge.verdict import CheckResult


def numbers(name: str, one: CheckResult) -> str:
    """Candidate against control."""
    if one.candidate_value is None or one.control_value is None or one.effect is None:
        return f"{one.candidate_count} candidate and {one.control_count} control requests"
    if name in RATE_COUNTS:
        return f"{one.candidate_value:.2%} against {one.control_value:.2%}"
    if one.quantile is None:
        return f"{one.candidate_value:.3f} against {one.control_value:.3f}"
    which = f"p{one.quantile * 100:g}"
    if name in DURATIONS:
        values = f"{one.candidate_value / 1000:.1f} ms against {one.control_value / 1000:.1f} ms"
    else:
        values = f"{one.candidate_value:.0f} against {one.control_value:.0f}"
    return f"{which} {values} ({one.effect:+.0%})"


def catastrophe(seen: Sequence[int]) -> str:
    """What the guard saw: requests and errors of the candidate, then of the control."""
    return (
        f"{seen[1]} errors in {seen[0]} requests of the candidate, "
        f"{seen[3]} in {seen[2]} of the control"
    )
