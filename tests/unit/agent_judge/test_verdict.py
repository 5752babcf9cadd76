"""What a check says of its interval where JSON has no word for it."""

from __future__ import annotations

from math import inf

import pytest

from agent.judge.verdict import CheckResult, Judgement, Verdict


def result(interval: tuple[float, float] | None) -> CheckResult:
    return CheckResult(
        candidate_count=1,
        control_count=1,
        candidate_value=None,
        control_value=None,
        effect=None,
        interval=interval,
        e_value=1.0,
        noninferiority_e_value=1.0,
        still_needed=None,
    )


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        (None, None),
        ((-0.5, 0.25), (-0.5, 0.25)),
        ((-inf, 0.25), (None, 0.25)),
        ((-0.5, inf), (-0.5, None)),
    ],
)
def test_an_open_end_is_none(
    interval: tuple[float, float] | None, expected: tuple[float | None, float | None] | None
) -> None:
    assert result(interval).bounds == expected


def test_a_judgement_without_evidence_has_none() -> None:
    assert Judgement(verdict=Verdict.UNDECIDED, reasons=(), checks={}).e_value == 1.0
