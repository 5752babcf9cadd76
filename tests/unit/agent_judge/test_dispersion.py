"""phi tells bursts of one key from independent errors, and unequal users from equal ones."""

from __future__ import annotations

import numpy as np

from agent.judge.dispersion import Dispersion, clustering
from agent.judge.running import OVER_TIME
from mlops.contracts.evidence import KEY_GROUPS

RUNS = 200


def learned(burst: int, blocks: int = 60, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    dispersion = Dispersion(RUNS)
    for _ in range(blocks):
        requests = rng.poisson(14, (RUNS, KEY_GROUPS))
        errors = burst * rng.binomial(requests, 0.01 / burst)
        dispersion.learn(errors, requests)
    return dispersion.phi


def test_independent_errors_are_left_alone() -> None:
    phi = learned(1)
    assert phi.min() >= 1
    assert np.median(phi) < 1.1
    assert phi.max() < 1.8


def test_bursts_of_five_of_one_key_are_found() -> None:
    assert 4 < np.median(learned(5)) < 6
    assert np.quantile(learned(5), 0.05) > 3


def test_one_user_who_always_fails_is_found() -> None:
    rng = np.random.default_rng(2)
    dispersion = Dispersion(RUNS)
    for _ in range(200):
        requests = rng.poisson(14, (RUNS, KEY_GROUPS))
        errors = rng.binomial(requests, 0.005)
        errors[:, 3] += 1
        dispersion.learn(errors, requests + (errors > 0))
    assert np.median(dispersion.phi) > 5


def test_lone_errors_of_one_user_count_from_the_third_on() -> None:
    dispersion = Dispersion(1)
    error, requests = np.zeros((1, KEY_GROUPS), np.int64), np.full((1, KEY_GROUPS), 10)
    error[0, 3] = 1
    found = []
    for _ in range(3):
        dispersion.learn(error, requests)
        found.append(bool(dispersion.phi[0] > 1))
    assert found == [False, False, True]


def test_nothing_known_is_no_dispersion() -> None:
    dispersion = Dispersion(2)
    dispersion.learn(None, None)
    dispersion.learn(np.zeros((2, KEY_GROUPS), np.int64), np.ones((2, KEY_GROUPS), np.int64))
    assert dispersion.phi.tolist() == [1.0, 1.0]


def test_unequal_users_cluster_and_new_keys_do_not() -> None:
    rng = np.random.default_rng(3)
    assert clustering(rng.poisson(100, (500, KEY_GROUPS))).mean() < 1.4
    heavy = rng.poisson(100, (500, KEY_GROUPS))
    heavy[:, 0] += 1000
    assert clustering(heavy).min() > 100
    assert clustering(np.zeros((1, KEY_GROUPS))).tolist() == [1.0]


def test_of_many_blocks_at_once_each_has_the_phi_of_those_before_it() -> None:
    rng = np.random.default_rng(4)
    requests = rng.poisson(14, (80, KEY_GROUPS))
    errors = 4 * rng.binomial(requests, 0.005)
    assert 0 < (errors.any(axis=1)).sum() < 80
    alone, together = Dispersion(1), Dispersion(OVER_TIME)
    expected = [alone.learn(errors[[i]], requests[[i]])[0] for i in range(80)]
    pieces = (slice(0, 1), slice(1, 50), slice(50, 80))
    found = [together.learn(errors[one], requests[one]) for one in pieces]
    np.testing.assert_allclose(np.concatenate(found), expected, rtol=1e-12)
    assert expected[0] == 1
    assert expected[-1] > 2
