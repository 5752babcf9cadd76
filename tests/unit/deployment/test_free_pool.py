"""Where another version may be loaded without anybody getting it."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from mlops.contracts.plan import RoutePlan, Slot
from mlops.deployment.free_pool import why_taken

POOL = ("http://b1:8012", "http://b2:8012")
HERE = Slot(version="1.1.0", endpoints=POOL)
ELSEWHERE = Slot(version="1.0.0", endpoints=("http://a:8011",))
PLAN = RoutePlan(route="r", generation=1, salt="r", stable=ELSEWHERE)


@pytest.mark.parametrize(
    "plan",
    [
        replace(PLAN, stable=HERE),
        replace(PLAN, canary=HERE, canary_share_bp=2_000, hold=True),
        replace(PLAN, canary=HERE, mirror_share_bp=1_000),
        replace(PLAN, previous=HERE, holdback_share_bp=500),
        replace(PLAN, route="another", canary=HERE, lease_s=30.0),
        replace(PLAN, route="another", previous=HERE, holdback_share_bp=500, lease_s=30.0),
    ],
    ids=["stable", "by hand", "mirror", "holdback", "another's canary", "another's bake"],
)
def test_servers_that_answer_for_a_version_are_not_free(plan: RoutePlan) -> None:
    why = why_taken(POOL, [PLAN, plan], "r")
    assert why == f"route {plan.route!r} sends requests for 1.1.0 to http://b1:8012"


@pytest.mark.parametrize(
    "plan",
    [
        PLAN,
        replace(PLAN, previous=HERE),
        replace(PLAN, canary=HERE),
        replace(PLAN, canary=HERE, canary_share_bp=2_000, lease_s=30.0),
        replace(PLAN, previous=HERE, holdback_share_bp=500, lease_s=30.0),
    ],
    ids=["nothing there", "kept", "no share", "canary left over", "holdback left over"],
)
def test_what_is_only_kept_or_is_being_taken_away_gives_way(plan: RoutePlan) -> None:
    assert not why_taken(POOL, [plan], "r")
