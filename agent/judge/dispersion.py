"""How far requests are from being independent, measured in the control: stable against stable.

A request's key has a bucket, and buckets fall into groups of equal size. Of independent errors, two
lie in the same group by chance only; a client that retries puts all of its errors into one. The
factor by which the counts of groups vary more than chance allows is phi; log e-values divided by it
keep their promise also then (and an e-value to the power of 1/phi is one, whatever phi is).
"""

from __future__ import annotations

import numpy as np

from agent.judge.eprocess import Floats, Ints

PRIOR_ERRORS = 3.0
"""Errors worth of belief in independence, so that a first few do not swing phi."""
DEVIATIONS = 2.33
"""One-sided 99 %: what lasts (one user who always fails) counts once it is more than chance."""


class Dispersion:
    """phi of the control's errors, by run, from the blocks so far."""

    def __init__(self, runs: int) -> None:
        self._excess = np.zeros(runs)
        self._errors = np.zeros(runs)
        self._total_errors: Floats | None = None
        self._total_requests: Floats | None = None
        self.phi: Floats = np.ones(runs)

    def learn(self, error_groups: Ints | None, request_groups: Ints | None) -> None:
        """One more block of the control."""
        if error_groups is None or request_groups is None or not error_groups.any():
            return
        pairs, errors = _pairs(error_groups, request_groups)
        self._excess += pairs
        self._errors += errors
        if self._total_errors is None or self._total_requests is None:
            self._total_errors = np.zeros(error_groups.shape)
            self._total_requests = np.zeros(error_groups.shape)
        self._total_errors += error_groups
        self._total_requests += request_groups
        burst = 1 + self._excess / (self._errors + PRIOR_ERRORS)
        pairs, errors = _pairs(self._total_errors, self._total_requests)
        lasting = (1 + pairs / (errors + PRIOR_ERRORS)) / _chance(error_groups.shape[-1])
        self.phi = np.maximum(1.0, np.maximum(burst, lasting))


def clustering(groups: Ints | Floats) -> Floats:
    """phi of whole counts by group: how unequal users are, at least 1."""
    total = groups.sum(axis=-1)
    expected = total / groups.shape[-1]
    squares = ((groups - expected[..., None]) ** 2).sum(axis=-1)
    freedom = groups.shape[-1] - 1
    return np.asarray(np.maximum(1.0, squares / (np.maximum(expected, 1e-9) * freedom)))


def _pairs(errors: Floats | Ints, requests: Floats | Ints) -> tuple[Floats, Floats]:
    """Pairs of errors in one group beyond chance, and the errors they are to be compared with."""
    total = errors.sum(axis=-1)
    parts = requests / np.maximum(requests.sum(axis=-1, keepdims=True), 1)
    same = (parts**2).sum(axis=-1)
    found = (errors * (errors - 1.0)).sum(axis=-1)
    return found - total * (total - 1) * same, total * (1 - same)


def _chance(groups: int) -> float:
    return float(1 + DEVIATIONS * np.sqrt(2 / (groups - 1)))
