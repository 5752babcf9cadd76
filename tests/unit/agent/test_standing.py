"""How old evidence may be, and what is said of clocks that do not agree."""

from __future__ import annotations

from dataclasses import replace as amended
from types import SimpleNamespace

import pytest

from agent.judge import Verdict
from agent.release import Publish, Renew
from agent.standing import AHEAD_S, FRESH_S, is_fresh, missing
from agent.stepper import reconcile

NOW_S = 1_100.0


@pytest.mark.parametrize(
    ("age_s", "fresh"),
    [(0.0, True), (FRESH_S, True), (FRESH_S + 0.1, False), (-AHEAD_S, True), (-5.1, False)],
)
def test_evidence_is_fresh_within_its_bounds(
    world: SimpleNamespace,
    age_s: float,
    fresh: bool,
) -> None:
    _, plan = world.begun()
    picture = world.picture(plan, now_s=NOW_S, verdict=Verdict.HEALTHY)

    assert is_fresh(amended(picture, closed_through_s=NOW_S - age_s)) is fresh


@pytest.mark.parametrize("age_s", [-60.0, 60.0])
def test_clocks_apart_hold_the_release_and_renew_no_lease(
    world: SimpleNamespace, age_s: float
) -> None:
    """Behind the log by a minute: says so. Ahead of it: sees no fresh evidence."""
    release, plan = world.begun()
    picture = world.picture(plan, now_s=NOW_S, verdict=Verdict.HEALTHY)
    apart = amended(picture, closed_through_s=NOW_S - age_s)

    writes = reconcile(release, world.POLICY, apart)

    assert not any(isinstance(write, Publish | Renew) for write in writes)
    said = missing(release, world.POLICY, apart)
    expected = "clocks apart: the log is 60 s ahead" if age_s < 0 else "no evidence for 60 s"
    assert said.startswith(expected)
    assert any(isinstance(one, Publish) for one in reconcile(release, world.POLICY, picture))
