"""What a terminal shows of a release."""

from __future__ import annotations

from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from rich.console import Console

from cli.live import SPARK_CELLS, ReleaseView, evidence_share, sparklines
from tests.unit.cli.test_view import STATUS

_VALUES = st.none() | st.floats(-1e9, 1e9)


def drawn(view: ReleaseView) -> str:
    console = Console(file=StringIO(), width=120, color_system=None)
    console.print(view.render())
    return console.file.getvalue()  # type: ignore[attr-defined]  # it is the StringIO above


@given(past=st.lists(st.tuples(_VALUES, _VALUES), max_size=SPARK_CELLS))
def test_both_arms_are_drawn_on_one_scale(past: list[tuple[float | None, float | None]]) -> None:
    canary, control = sparklines(past)
    assert len(canary) == len(control) == len(past)
    order = " ▁▂▃▄▅▆▇█"
    drawn_values = [
        (value, order.index(cell))
        for line, index in ((canary, 0), (control, 1))
        for cell, pair in zip(line, past, strict=True)
        if (value := pair[index]) is not None
    ]
    for value, height in drawn_values:
        assert all(height <= other for more, other in drawn_values if more > value)


@pytest.mark.parametrize(
    ("e_value", "error_rate", "share"),
    [(0.2, 0.05, 0.0), (1.0, 0.05, 0.0), (20.0, 0.05, 1.0), (1e300, 0.05, 1.0), (10.0, 0.01, 0.5)],
)
def test_evidence_is_full_when_it_decides(e_value: float, error_rate: float, share: float) -> None:
    assert evidence_share(e_value, error_rate) == pytest.approx(share)


def test_another_release_starts_from_nothing() -> None:
    view = ReleaseView()
    errors = STATUS.checks["errors"]
    for rate in (0.0, 0.1):
        checks = {"errors": replace(errors, candidate_value=rate)}
        view.show(replace(STATUS, checks=checks))
    assert "▁█" in drawn(view)
    view.show(replace(STATUS, id="rel-2"))
    assert "▁█" not in drawn(view)


def test_what_is_needed_and_why_is_said() -> None:
    view = ReleaseView()
    view.show(STATUS)
    text = drawn(view)
    for said in ("90 more", "latency: 40 candidate requests", "step 1 of 3", "5.0%"):
        assert said in text
