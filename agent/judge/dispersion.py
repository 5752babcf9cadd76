"""How far requests are from being independent, measured in the control: stable against stable.

A request's key has a bucket, and buckets fall into groups of equal size. Of independent errors, two
lie in the same group by chance only; a client that retries puts all of its errors into one. The
factor by which the counts of groups vary more than chance allows is phi; log e-values divided by it
keep their promise also then (and an e-value to the power of 1/phi is one, whatever phi is).
"""

from __future__ import annotations

import numpy as np

from agent.judge.eprocess import Floats, Ints
from agent.judge.running import OVER_TIME, Sums, carried
from mlops.contracts.evidence import KEY_GROUPS

PRIOR_ERRORS = 3.0
"""Errors worth of belief in independence, so that a first few do not swing phi."""
DEVIATIONS = 2.33
"""One-sided 99 %: what lasts (one user who always fails) counts once it is more than chance."""


class Dispersion:
    """phi of the control's errors, by case, from the blocks so far."""

    def __init__(self, runs: int | None, groups: int = KEY_GROUPS) -> None:
        self._pairs = Sums(runs, 2, dtype=np.float64)
        """Excess pairs and errors, block by block."""
        self._totals = Sums(runs, 2, groups)
        """Errors and requests by group, of blocks with errors."""
        self._is_over_time = runs is OVER_TIME
        self.phi: Floats = np.ones(1 if runs is OVER_TIME else runs)

    def learn(self, error_groups: Ints | None, request_groups: Ints | None) -> Floats:
        """One more block of the control (or more); what phi was before each."""
        before = self.phi[-1:] if self._is_over_time else self.phi
        if error_groups is None or request_groups is None:
            return before
        has_errors = error_groups.any(axis=-1)
        if not self._is_over_time:
            if has_errors.any():
                self.phi = self._learn(error_groups, request_groups)
            return before
        after = carried(before, self._learn(error_groups[has_errors], request_groups[has_errors]))
        self.phi = after[np.concatenate([[0], np.cumsum(has_errors)])]
        return np.asarray(self.phi[:-1])

    def _learn(self, error_groups: Ints, request_groups: Ints) -> Floats:
        pairs, errors = np.moveaxis(
            self._pairs.push(np.stack(_pairs(error_groups, request_groups), axis=-1))[1], -1, 0
        )
        burst = 1 + pairs / (errors + PRIOR_ERRORS)
        totals = np.moveaxis(
            self._totals.push(np.stack([error_groups, request_groups], axis=-2))[1], -2, 0
        )
        pairs, errors = _pairs(totals[0], totals[1])
        lasting = (1 + pairs / (errors + PRIOR_ERRORS)) / _chance(error_groups.shape[-1])
        return np.asarray(np.maximum(1.0, np.maximum(burst, lasting)))


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
