"""What the gateways' answers to a rollback come to together."""

from __future__ import annotations

from mlops.contracts.api import RouteStatus
from mlops.contracts.plan import RoutePlan, Slot
from mlops.deployment.rollback import _Answer, _joined


def status(route: str, stable: str, canary: str = "") -> RouteStatus:
    there = ("http://127.0.0.1:1",)
    plan = RoutePlan(
        route=route,
        generation=1,
        salt=route,
        stable=Slot(version=stable, endpoints=there),
        canary=Slot(version=canary, endpoints=there) if canary else None,
    )
    return RouteStatus(plan=plan, share_bp=0, model="m")


def test_a_version_that_still_serves_another_route_is_not_taken_back() -> None:
    """Else the registry would call what users have rejected, and take its alias away."""
    answer = _Answer(
        [
            (status("search", "1.0.0", canary="1.1.0"), status("search", "1.0.0")),
            (status("chat", "1.1.0"), status("chat", "1.1.0")),
        ]
    )
    result = _joined("m", {"one": answer})
    assert result.taken_back == ()
    assert result.routes == {"search": "1.0.0", "chat": "1.1.0"}
    assert result.confirmed == ("one",)


def test_a_gateway_that_kept_nothing_to_return_to_has_not_confirmed() -> None:
    answers = {
        "new": _Answer([(status("r", "1.1.0"), status("r", "1.1.0"))]),
        "old": _Answer([(status("r", "1.1.0"), status("r", "1.0.0"))]),
    }
    result = _joined("m", answers)
    assert result.routes == {"r": "1.0.0"}
    assert result.taken_back == ("1.1.0",)
    assert result.confirmed == ("old",)
    assert result.unconfirmed == {
        "new": "new: route 'r' serves 1.1.0 and keeps nothing to return to"
    }


def test_a_gateway_that_was_rolled_back_before_agrees() -> None:
    answers = {
        "again": _Answer([(status("r", "1.0.0"), status("r", "1.0.0"))]),
        "now": _Answer([(status("r", "1.1.0"), status("r", "1.0.0"))]),
    }
    assert _joined("m", answers).confirmed == ("again", "now")
