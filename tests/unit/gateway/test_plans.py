"""Plans, leases and rollback, with time as an argument."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.plans import (
    MANAGED_WAIT_S,
    EmptySlot,
    NoLease,
    Origin,
    PlanBook,
    ShareTooLarge,
    StaleGeneration,
    StoredPlan,
    UnknownRoute,
)
from gateway.routing import decide
from gateway.settings import MatchSettings, RouteSettings
from mlops.contracts.plan import (
    Arm,
    NothingToRestore,
    RoutePlan,
    Slot,
    promoted,
    rolled_back,
)

A = Slot(version="A", endpoints=("http://127.0.0.1:8011",))
B = Slot(version="B", endpoints=("http://127.0.0.1:8012",))


def route(*, managed: bool = False, canary_share_bp: int = 0) -> RouteSettings:
    canary = B if canary_share_bp else None
    return RouteSettings(
        name="rag",
        model="rag",
        match=MatchSettings(),
        stable=A,
        canary=canary,
        canary_share_bp=canary_share_bp,
        managed=managed,
    )


def plan(generation: int, *, canary_share_bp: int = 1000, lease_s: float | None = 30) -> RoutePlan:
    return RoutePlan(
        route="rag",
        generation=generation,
        salt="release-1",
        stable=A,
        canary=B,
        canary_share_bp=canary_share_bp,
        lease_s=lease_s,
    )


def book(now_s: float = 0.0, **settings: int) -> PlanBook:
    made = PlanBook()
    made.seed(route(canary_share_bp=settings.get("canary_share_bp", 0)), now_s)
    return made


def test_the_files_weights_seed_a_route_without_a_lease() -> None:
    seeded = book(canary_share_bp=1000).live("rag")
    assert (seeded.plan.generation, seeded.plan.salt, seeded.plan.lease_s) == (1, "rag", None)
    assert seeded.share_in_force_bp(1e9) == 1000


def test_a_plan_is_accepted_only_with_a_greater_generation() -> None:
    plans = book()
    plans.accept(plan(7), 0.0)
    before = plans.live("rag")
    for generation in (6, 7):
        with pytest.raises(StaleGeneration) as caught:
            plans.accept(plan(generation), 1.0)
        assert caught.value.live_generation == 7
        assert "7" in str(caught.value)
    assert plans.live("rag") is before


def test_an_unknown_route_is_named_with_the_known_ones() -> None:
    with pytest.raises(UnknownRoute, match=r"'rga'.*rag"):
        book().live("rga")


def test_a_lease_counts_from_acceptance_and_its_end_sends_everything_to_stable() -> None:
    plans = book()
    live = plans.accept(plan(2, canary_share_bp=9500), 100.0)
    keys = [str(i).encode() for i in range(200)]
    assert any(decide(live, key, 129.9).arm is Arm.CANARY for key in keys)
    assert all(decide(live, key, 130.0).arm is Arm.STABLE for key in keys)
    status = plans.lease_status("rag", 112.0)
    assert status is not None
    assert (status.remaining_s, status.lapsed) == (18.0, False)
    said = plans.explain("rag", 142.0)
    assert "everything to stable A" in said
    assert "lease of generation 2 ended 12.0 s ago" in said


def test_a_lapsed_lease_of_the_live_generation_is_armed_again_by_a_renewal() -> None:
    plans = book()
    plans.accept(plan(2), 0.0)
    assert plans.live("rag").is_lapsed(40.0)
    renewed = plans.renew_lease("rag", 2, 30, 40.0)
    assert renewed.share_in_force_bp(69.9) == 1000
    assert renewed.share_in_force_bp(70.0) == 0
    assert renewed.plan.generation == 2


def test_only_the_live_generation_is_renewed() -> None:
    plans = book()
    plans.accept(plan(2), 0.0)
    before = plans.live("rag")
    for generation in (1, 3):
        with pytest.raises(StaleGeneration) as caught:
            plans.renew_lease("rag", generation, 30, 1.0)
        assert caught.value.live_generation == 2
    with pytest.raises(ValueError, match="above 0"):
        plans.renew_lease("rag", 2, 0, 1.0)
    assert plans.live("rag") is before


def test_a_plan_without_a_lease_has_nothing_to_renew() -> None:
    plans = book()
    with pytest.raises(NoLease):
        plans.renew_lease("rag", 1, 30, 0.0)


def test_a_leased_plan_restored_from_disk_waits_for_its_renewal() -> None:
    plans = PlanBook()
    live = plans.restore(StoredPlan(plan=plan(5)))
    assert live.share_in_force_bp(0.0) == 0
    assert "restored from disk" in plans.explain("rag", 0.0)
    assert plans.renew_lease("rag", 5, 30, 0.0).share_in_force_bp(0.0) == 1000


def test_a_plan_without_a_lease_is_restored_as_it_was() -> None:
    live = PlanBook().restore(StoredPlan(plan=plan(5, lease_s=None)))
    assert live.share_in_force_bp(0.0) == 1000


def test_weights_by_hand_hold_the_agent_off_and_have_no_lease() -> None:
    plans = book()
    plans.accept(plan(2), 0.0)
    made = plans.weighted("rag", 2000, set_by="operator", reason="by hand")
    assert (made.generation, made.canary_share_bp) == (3, 2000)
    assert (made.hold, made.lease_s) == (True, None)


def test_weights_by_hand_end_the_holdback() -> None:
    plans = book()
    plans.accept(after_promotion(3), 0.0)
    made = plans.weighted("rag", 0, set_by="operator", reason="")
    assert made.holdback_share_bp == 0
    assert made.stable == B


def test_a_weight_for_an_empty_canary_slot_is_refused() -> None:
    with pytest.raises(EmptySlot, match=r"no canary to give 10 %"):
        book().weighted("rag", 1000, set_by="operator", reason="")


def after_promotion(generation: int, lease_s: float | None = 30) -> RoutePlan:
    return promoted(
        plan(generation - 1),
        generation=generation,
        holdback_share_bp=500,
        lease_s=lease_s,
        set_by="agent",
        reason="",
    )


def roll_back(plans: PlanBook, *, to_previous: bool = False) -> RoutePlan:
    made = plans.rolled_back("rag", to_previous=to_previous, set_by="operator", reason="03:00")
    if made is not None:
        plans.accept(made.plan, 0.0, made.origin)
    return plans.live("rag").plan


def test_rollback_before_promotion_drops_the_canary() -> None:
    plans = book()
    plans.accept(plan(2), 0.0)
    after = roll_back(plans)
    assert (after.stable, after.canary, after.hold) == (A, None, True)
    assert after.generation == 3


def test_rollback_after_promotion_restores_the_version_before_it() -> None:
    plans = book()
    plans.accept(after_promotion(3), 0.0)
    after = roll_back(plans)
    assert (after.stable, after.previous, after.lease_s) == (A, None, None)


@pytest.mark.parametrize("to_previous", [False, True])
def test_repeating_a_rollback_never_returns_to_the_version_rolled_back_from(
    *, to_previous: bool
) -> None:
    plans = book()
    plans.accept(after_promotion(3), 0.0)
    first = roll_back(plans, to_previous=to_previous)
    for _ in range(3):
        assert roll_back(plans, to_previous=to_previous) is first


def test_pressing_rollback_twice_drops_the_canary_once_and_keeps_stable() -> None:
    """A is stable, B the canary, and Z is left from the release before."""
    older = Slot(version="Z", endpoints=("http://127.0.0.1:8010",))
    plans = PlanBook()
    plans.restore(StoredPlan(plan=replaced_previous(plan(4), older)))
    first = roll_back(plans)
    assert first.stable == A
    assert roll_back(plans) is first
    assert roll_back(plans, to_previous=True).stable == older


def publish(plans: PlanBook, plan: RoutePlan) -> None:
    stored = plans.published(plan)
    plans.accept(stored.plan, 0.0, stored.origin)


def without_canary(base: RoutePlan) -> RoutePlan:
    return rolled_back(
        base,
        generation=base.generation + 1,
        set_by="agent",
        reason="regressed",
        hold=False,
        to_previous=False,
    )


def test_a_rollback_by_hand_after_the_agents_own_goes_no_version_further() -> None:
    """The agent has dropped B and may repeat its plan; stable A stays, Z is asked for by name."""
    older = Slot(version="Z", endpoints=("http://127.0.0.1:8010",))
    plans = book()
    publish(plans, replaced_previous(plan(4), older))
    for _ in range(2):
        publish(plans, without_canary(plans.live("rag").plan))
        dropped = plans.live("rag").plan
        assert roll_back(plans) is dropped
    assert (dropped.stable, dropped.previous) == (A, older)
    assert roll_back(plans, to_previous=True).stable == older


def test_a_rollback_by_hand_confirms_the_agents_restoration_of_previous() -> None:
    plans = book()
    publish(plans, after_promotion(3))
    base = plans.live("rag").plan
    restored = rolled_back(
        base, generation=4, set_by="agent", reason="", hold=False, to_previous=True
    )
    publish(plans, restored)
    assert roll_back(plans) is restored
    assert roll_back(plans, to_previous=True) is restored


def test_a_rollback_after_a_promotion_and_its_settling_still_restores_previous() -> None:
    """Neither plan is a rollback, although both leave the canary slot empty."""
    plans = book()
    publish(plans, plan(2))
    publish(plans, after_promotion(3))
    publish(plans, without_canary(plans.live("rag").plan))
    assert roll_back(plans).stable == A


def test_a_new_canary_after_a_rollback_is_dropped_by_the_next() -> None:
    plans = book()
    publish(plans, plan(2))
    publish(plans, without_canary(plans.live("rag").plan))
    publish(plans, plan(4))
    after = roll_back(plans)
    assert (after.generation, after.stable, after.canary) == (5, A, None)


def replaced_previous(base: RoutePlan, previous: Slot) -> RoutePlan:
    return RoutePlan(
        route=base.route,
        generation=base.generation,
        salt=base.salt,
        stable=base.stable,
        canary=base.canary,
        canary_share_bp=base.canary_share_bp,
        previous=previous,
        lease_s=base.lease_s,
    )


def test_rollback_with_nothing_to_restore_is_refused() -> None:
    with pytest.raises(NothingToRestore, match="no previous version"):
        roll_back(book())


@given(
    ages_s=st.lists(st.floats(0, 1e6), min_size=1, max_size=4),
    lease_s=st.one_of(st.none(), st.floats(0.1, 1e5)),
    key=st.binary(max_size=12),
)
def test_after_a_promotion_neither_restart_nor_lapse_brings_the_old_version_back(
    ages_s: list[float], lease_s: float | None, key: bytes
) -> None:
    """Only the leased holdback may still see the old version, and only while its lease runs."""
    plans = book()
    plans.accept(after_promotion(3, lease_s), 0.0)
    for age_s in ages_s:
        stored = StoredPlan(plan=plans.live("rag").plan, origin=Origin.PUBLISHED)
        plans = PlanBook()
        live = plans.restore(stored)
        decision = decide(live, key, age_s)
        assert decision.slot == B or (lease_s is None and decision.arm is Arm.HOLDBACK)
        assert live.plan.stable == B


def test_a_managed_route_waits_for_its_first_plan_and_then_serves_the_files_stable() -> None:
    plans = PlanBook()
    plans.seed(route(managed=True), 100.0)
    assert plans.is_waiting("rag", 100.0 + MANAGED_WAIT_S - 0.1)
    assert not plans.is_waiting("rag", 100.0 + MANAGED_WAIT_S)
    assert plans.is_unpublished("rag")
    assert "no plan was published yet" in plans.explain("rag", 200.0)
    plans.accept(plan(1), 101.0)
    assert not plans.is_unpublished("rag")
    assert not plans.is_waiting("rag", 101.0)


def test_the_explanation_names_weights_who_and_why() -> None:
    plans = book()
    made = plan(2, lease_s=None)
    plans.accept(made, 0.0)
    assert plans.explain("rag", 0.0) == ("10 % to canary B, the rest to stable A: generation 2")


def capped_book() -> PlanBook:
    made = PlanBook()
    made.seed(replace(route(), max_canary_share_bp=2500), 0.0)
    return made


def test_no_plan_and_no_weight_goes_above_the_files_cap() -> None:
    plans = capped_book()
    with pytest.raises(ShareTooLarge, match=r"26 % for the canary is above max_canary .* 25 %"):
        plans.published(plan(2, canary_share_bp=2600))
    plans.accept(plan(2, canary_share_bp=2500), 0.0)
    with pytest.raises(ShareTooLarge):
        plans.weighted("rag", 2501, set_by="me", reason="")
    plans.renew_lease("rag", 2, 30.0, 1.0)
    with pytest.raises(ShareTooLarge):
        plans.accept(plan(3, canary_share_bp=2501), 0.0)
    assert plans.live("rag").plan.generation == 2


def test_a_stored_plan_above_a_cap_that_was_lowered_is_cut_to_it() -> None:
    plans = PlanBook()
    live = plans.restore(StoredPlan(plan=plan(7, canary_share_bp=5000, lease_s=None)), 1000)
    assert (live.plan.generation, live.canary_below) == (7, 1000)
