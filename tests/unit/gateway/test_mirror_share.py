"""How much is copied: what the plan says, else what the file says."""

from __future__ import annotations

import pytest

from gateway.lanes import RouteState
from gateway.pool import Endpoint
from gateway.routing import LivePlan
from gateway.settings import MatchSettings, RouteSettings
from gateway.upstream_settings import MirrorSettings
from mlops.contracts.plan import RoutePlan, Slot

STABLE = Slot(version="1", endpoints=("http://127.0.0.1:9",))
CANARY = Slot(version="2", endpoints=("http://127.0.0.1:10",))


@pytest.mark.parametrize(
    ("of_file", "of_plan", "copied"),
    [(0.0, None, 0.0), (20.0, None, 0.2), (0.0, 2500, 0.25), (20.0, 0, 0.0), (20.0, 10_000, 1.0)],
)
def test_the_plan_goes_before_the_file(of_file: float, of_plan: int | None, copied: float) -> None:
    settings = RouteSettings(
        name="rag",
        model="rag",
        match=MatchSettings(),
        stable=STABLE,
        mirror=MirrorSettings(percent=of_file),
    )
    route = RouteState(settings, says_served_by=True)
    plan = RoutePlan(
        route="rag", generation=2, salt="s", stable=STABLE, canary=CANARY, mirror_share_bp=of_plan
    )
    live = LivePlan(plan)
    route.apply(live, Endpoint)
    assert route.mirroring.share == pytest.approx(copied)
    assert (route.lanes[live.stable].mirror is not None) == bool(copied)
    route.apply(LivePlan(RoutePlan(route="rag", generation=3, salt="s", stable=STABLE)), Endpoint)
    assert route.mirroring.share == pytest.approx(of_file / 100)
