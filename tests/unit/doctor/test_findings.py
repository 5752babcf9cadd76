"""What counts as wrong."""

from __future__ import annotations

import pytest

from mlops.doctor.findings import State, clock, disk, schema


@pytest.mark.parametrize(
    ("skew_s", "state"),
    [(0.0, State.OK), (2.0, State.OK), (-2.1, State.FAILED), (3600, State.FAILED)],
)
def test_clocks_apart_are_a_failure_in_either_direction(skew_s: float, state: State) -> None:
    finding = clock("ClickHouse", skew_s)

    assert finding.state is state
    assert bool(finding.mend) == (state is State.FAILED)


def test_missing_steps_are_named_with_the_command_that_applies_them() -> None:
    assert schema([]).state is State.OK
    finding = schema(["6 embeddings"])
    assert (finding.state, finding.mend) == (State.FAILED, "rag-mlops migrate")
    assert "6 embeddings" in finding.what


def test_a_full_disk_is_told_before_it_is_full() -> None:
    assert disk("var", 2 * 1024**3).state is State.OK
    assert disk("var", 10**8).state is State.WARNING
