from __future__ import annotations

import random
from collections import Counter

import pytest

from mlops.serving.faults import Fault, FaultSettings


def test_shares_of_faults_come_out_as_set() -> None:
    settings = FaultSettings(error_percent=5, reset_percent=10, hang_percent=20)
    source = random.Random(1)
    drawn = Counter(settings.draw(source) for _ in range(20_000))
    assert drawn[Fault.ERROR] / 20_000 == pytest.approx(0.05, abs=0.01)
    assert drawn[Fault.RESET] / 20_000 == pytest.approx(0.10, abs=0.01)
    assert drawn[Fault.HANG] / 20_000 == pytest.approx(0.20, abs=0.015)


def test_the_same_seed_gives_the_same_faults_and_no_share_gives_none() -> None:
    settings = FaultSettings(error_percent=50)
    first, second = random.Random(3), random.Random(3)
    assert [settings.draw(first) for _ in range(50)] == [settings.draw(second) for _ in range(50)]
    assert {FaultSettings().draw(first) for _ in range(100)} == {Fault.NONE}


@pytest.mark.parametrize(
    "settings", [{"error_percent": 101}, {"hang_percent": -1}, {"delay_ms": -1}, {"delay_ms": 1e9}]
)
def test_impossible_faults_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected 0 to"):
        FaultSettings(**settings)
