"""Deciding: sticky, monotonic, the same everywhere; a lapsed lease means stable."""

from __future__ import annotations

import json
import subprocess
import sys
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.routing import MAX_KNOWN_BUCKETS, MAX_KNOWN_KEY_BYTES, LivePlan, decide
from mlops.contracts.plan import Arm, RoutePlan, Slot, bucket_of
from mlops.contracts.record import Kind

STABLE = Slot(version="1", endpoints=("http://127.0.0.1:1",))
CANARY = Slot(version="2", endpoints=("http://127.0.0.1:2",))
PREVIOUS = Slot(version="0", endpoints=("http://127.0.0.1:3",))


def live(canary_bp=0, holdback_bp=0, *, salt="salt", ends_s=inf, **slots):
    plan = RoutePlan(
        route="rag",
        generation=1,
        salt=salt,
        stable=STABLE,
        canary=slots.get("canary", CANARY),
        canary_share_bp=canary_bp,
        previous=slots.get("previous", PREVIOUS),
        holdback_share_bp=holdback_bp,
    )
    return LivePlan(plan, ends_s)


def arm(plan, key, now_s=0.0, **options):
    return decide(plan, key, now_s, **options).arm


@given(
    key=st.binary(max_size=40),
    salt=st.text(min_size=1, max_size=16),
    shares=st.lists(st.integers(0, 9500), min_size=2, max_size=8),
)
def test_raising_the_share_never_moves_a_key_back_to_stable(key, salt, shares):
    arms = [arm(live(share, salt=salt), key) for share in sorted(shares)]
    first = arms.index(Arm.CANARY) if Arm.CANARY in arms else len(arms)
    assert all(each is Arm.CANARY for each in arms[first:])


@given(
    key=st.binary(max_size=40),
    canary_bp=st.integers(0, 4000),
    holdback_bp=st.integers(0, 4000),
)
def test_the_bucket_alone_places_a_key(key, canary_bp, holdback_bp):
    plan = live(canary_bp, holdback_bp)
    decision = decide(plan, key, 0.0)
    bucket = bucket_of("salt", key)
    assert plan.bucket_of(key) == bucket
    assert plan.bucket_of(key) == bucket, "also when it is remembered"
    expected = Arm.STABLE
    if bucket < canary_bp:
        expected = Arm.CANARY
    elif bucket >= 10_000 - holdback_bp:
        expected = Arm.HOLDBACK
    assert decision.arm is expected
    assert decision.slot is plan.plan.slot(expected)
    assert decision.share_bp == canary_bp + holdback_bp


OTHER_PROCESS = """
import json, sys
from gateway.routing import LivePlan, decide
from mlops.contracts.plan import RoutePlan, Slot
slot = Slot(version="v", endpoints=("http://h:1",))
plan = LivePlan(RoutePlan(route="rag", generation=7, salt="release-1", stable=slot, canary=slot,
    canary_share_bp=2500, previous=slot, holdback_share_bp=500))
keys = [b"user-%d" % n for n in range(10_000)]
print(json.dumps([[decide(plan, key, 0.0).arm, plan.bucket_of(key)] for key in keys]))
"""


def test_the_edges_of_the_shares_are_exact():
    """The canary has the buckets below its share, the holdback the last ones."""
    key = b"u0"
    bucket = bucket_of("salt", key)
    assert 0 < bucket < 9000
    assert [arm(live(bucket + more), key) for more in (0, 1)] == [Arm.STABLE, Arm.CANARY]
    last = next(b"u%d" % n for n in range(100) if bucket_of("salt", b"u%d" % n) > 6000)
    share_bp = 10_000 - bucket_of("salt", last)
    found = [arm(live(0, share_bp - less), last) for less in (0, 1)]
    assert found == [Arm.HOLDBACK, Arm.STABLE]


def test_keys_are_remembered_up_to_a_bound_and_then_forgotten_at_once():
    plan = live()
    assert MAX_KNOWN_BUCKETS == 16_384
    for number in range(MAX_KNOWN_BUCKETS):
        plan.bucket_of(b"%d" % number)
    assert plan.known_buckets == MAX_KNOWN_BUCKETS
    plan.bucket_of(b"0")
    assert plan.known_buckets == MAX_KNOWN_BUCKETS, "it was known"
    plan.bucket_of(b"one more")
    assert plan.known_buckets == 1


def test_a_key_longer_than_any_id_is_not_remembered():
    plan = live()
    assert MAX_KNOWN_KEY_BYTES == 128
    longest = b"k" * MAX_KNOWN_KEY_BYTES
    assert plan.bucket_of(longest + b"k") == bucket_of("salt", longest + b"k")
    assert plan.known_buckets == 0
    plan.bucket_of(longest)
    assert plan.known_buckets == 1


def test_two_processes_agree_on_every_key():
    def run(seed):
        return json.loads(
            subprocess.run(
                [sys.executable, "-c", OTHER_PROCESS],
                check=True,
                capture_output=True,
                timeout=60,
                env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            ).stdout
        )

    mine = live(2500, 500, salt="release-1")
    keys = [b"user-%d" % number for number in range(10_000)]
    here = [[decide(mine, key, 0.0).arm.value, mine.bucket_of(key)] for key in keys]
    assert run("1") == run("2") == here
    assert abs(sum(name == "canary" for name, _ in here) - 2500) < 200
    assert abs(sum(name == "holdback" for name, _ in here) - 500) < 120


def test_a_new_salt_draws_other_users():
    keys = [b"%d" % number for number in range(2000)]
    one = {key for key in keys if arm(live(1000, salt="one"), key) is Arm.CANARY}
    two = {key for key in keys if arm(live(1000, salt="two"), key) is Arm.CANARY}
    assert len(one & two) < len(one) / 3


@pytest.mark.parametrize("override", [None, True, False])
def test_a_lapsed_lease_sends_everything_to_stable(override):
    plan = live(9000, 500, ends_s=10.0)
    keys = [b"%d" % number for number in range(200)]
    assert {arm(plan, key, 9.999) for key in keys} >= {Arm.CANARY, Arm.STABLE}
    lapsed = [decide(plan, key, 10.0, override=override) for key in keys]
    assert {(d.arm, d.share_bp, d.kind) for d in lapsed} == {(Arm.STABLE, 0, Kind.SERVED)}
    assert plan.share_in_force_bp(9.0) == 9500
    assert plan.share_in_force_bp(10.0) == 0


@pytest.mark.parametrize(("override", "expected"), [(True, Arm.CANARY), (False, Arm.STABLE)])
def test_an_override_wins_over_the_weight_and_is_marked(override, expected):
    decision = decide(live(5000), b"key", 0.0, override=override)
    assert (decision.arm, decision.kind) == (expected, Kind.OVERRIDE)


def test_an_override_to_an_empty_slot_is_stable():
    assert arm(live(canary=None), b"key", override=True) is Arm.STABLE
