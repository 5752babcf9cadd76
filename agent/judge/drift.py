"""Have the queries changed over time? A reason to retrain, never to roll back. Pure.

An e-detector (Shin, Ramdas and Rinaldo 2024): R <- (R + 1) * L, with L an e-value of each block
under "nothing has changed", so that without change an alarm at R >= c comes on average once in c
blocks or more rarely. Blocks are sums and counts, as ClickHouse adds them up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import log

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2, norm

from agent.judge.eprocess import Floats, Ints, Table, log_mean, log_odds_ratios

Counts = NDArray[np.number]

RUN_LENGTH = 40_000
"""Queries between two alarms without any change, on average at least."""
HALF_LIFE = 200
"""Queries after which a block counts half in the mean that says where queries have gone."""
MIN_REFERENCE = 200
"""Rows; with fewer the detector would mostly measure its own ignorance."""
REFERENCE_CONFIDENCE = 0.998
"""The reference is a sample itself: what it may be off by is not held against the queries."""
_BETS = np.array([0.1, 0.2, 0.35, 0.55])
"""Tilts in standard deviations of a projection."""
_MIXES = np.array([0.1, 0.3, 0.9])
"""Of the recent frequencies in a bet on categories; the rest is the reference."""
ROUTING_ALPHA = 0.001
_DEVIATIONS = float(norm.ppf(REFERENCE_CONFIDENCE))


class Detector:
    """The e-detector itself: several bets, one alarm."""

    def __init__(self, bets: int, run_length: int = RUN_LENGTH) -> None:
        """`run_length` is queries between two alarms without any change, on average at least."""
        self._log_values = np.full(bets, -np.inf)
        self._run_length = run_length
        self.log_limit = log(run_length)

    def absorb(self, log_ratios: Floats, queries: int) -> bool:
        """One block of so many queries; whether the alarm goes off, which starts it again."""
        with np.errstate(divide="ignore"):
            self._log_values = np.logaddexp(self._log_values, 0.0) + log_ratios
        self.log_limit = log(max(2.0, self._run_length / max(1, queries)))
        alarm = self.log_value >= self.log_limit
        if alarm:
            self._log_values[:] = -np.inf
        return alarm

    @property
    def log_value(self) -> float:
        """Evidence since the last alarm."""
        return float(log_mean(self._log_values))


@dataclass(frozen=True, slots=True)
class Blocks:
    """Mean embeddings of blocks of the reference, and how many queries each stands for."""

    counts: Floats
    means: Floats
    """(blocks, dimensions)."""


class EmbeddingDrift:
    """Has the mean embedding of a route's queries moved? Of one embedding space only.

    The bet on a block is on the direction in which the blocks before it have moved. Along it, the
    e-value of a query is exp(bet * projection) over its mean in a held-out part of the reference,
    so a block's is known from the sum of its embeddings.
    """

    def __init__(
        self,
        reference: NDArray[np.floating],
        run_length: int = RUN_LENGTH,
        blocks: Blocks | None = None,
    ) -> None:
        """`reference` is rows of embeddings, (rows, dimensions), from a time that was good.

        `blocks` of that time tell how much more their means vary than those of independent queries
        would, and the evidence is divided by that. Without them queries count as independent.

        Raises:
            ValueError: too few rows, or rows that are no vectors of one length.
        """
        if reference.ndim != 2 or len(reference) < MIN_REFERENCE:
            shape = "x".join(str(one) for one in reference.shape)
            raise ValueError(f"a reference of {shape}; expected at least {MIN_REFERENCE} vectors")
        rows = np.asarray(reference, np.float64)
        held_out = np.zeros(len(rows), bool)
        held_out[::2] = True  # the law of projections; the rest gives the mean
        self.dimensions = rows.shape[1]
        self._mean: Floats = rows[~held_out].mean(axis=0)
        self._held_out: Floats = rows[held_out]
        self._blocks = blocks
        self._recent: Floats = np.zeros(self.dimensions)
        self._recent_weight = 0.0
        self._detector = Detector(len(_BETS), run_length)
        self.queries = 0

    def absorb(self, count: int, total: NDArray[np.floating]) -> bool:
        """One block: how many queries, and the sum of their embeddings. Whether it is an alarm.

        Raises:
            ValueError: the sum is of another length, so of another embedding space.
        """
        if total.shape != (self.dimensions,):
            raise ValueError(
                f"a sum of {total.shape[0]} numbers; the reference has {self.dimensions}: another "
                "embedding space is not compared"
            )
        if not count:
            return False
        self.queries += count
        alarm = False
        if self._recent_weight:
            alarm = self._detector.absorb(self._log_ratios(count, np.asarray(total, float)), count)
        fade = 0.5 ** (count / HALF_LIFE)
        self._recent = fade * self._recent + total
        self._recent_weight = fade * self._recent_weight + count
        return alarm

    def _log_ratios(self, count: int, total: Floats) -> Floats:
        direction = self._recent / self._recent_weight - self._mean
        projections = self._held_out @ direction
        centre, spread = float(projections.mean()), float(projections.std())
        if spread <= 0:
            return np.zeros(len(_BETS))
        tilted = np.exp(_BETS * ((projections - centre) / spread)[:, None])
        mean = tilted.mean(axis=0)
        error = tilted.std(axis=0) / (mean * np.sqrt(len(tilted)))
        moved = (float(total @ direction) - count * centre) / spread
        ratios = _BETS * moved - count * (np.log(mean) + _DEVIATIONS * error)
        return np.asarray(ratios / self._dispersion(direction, spread))

    def _dispersion(self, direction: Floats, spread: float) -> float:
        """How much more the reference's blocks vary along it than independent queries would."""
        if self._blocks is None or len(self._blocks.counts) < 2:
            return 1.0
        projected = self._blocks.means @ direction
        away = projected - np.average(projected, weights=self._blocks.counts)
        return max(1.0, float((self._blocks.counts * away**2).mean()) / spread**2)

    @property
    def distance(self) -> float:
        """Of the recent mean embedding from the reference's, for a dashboard."""
        if not self._recent_weight:
            return 0.0
        return float(np.linalg.norm(self._recent / self._recent_weight - self._mean))

    @property
    def log_value(self) -> float:
        """Evidence since the last alarm; the alarm is at `log_limit`."""
        return self._detector.log_value

    @property
    def log_limit(self) -> float:
        """For blocks as large as the last one."""
        return self._detector.log_limit


class FeatureDrift:
    """Have the frequencies of a feature moved: length, language, tokens?

    The bet on a block is on the frequencies of the blocks before it. Queries that come in clusters
    vary more than independent ones: by how much is measured in the blocks of the reference.
    """

    def __init__(self, reference: Counts, run_length: int = RUN_LENGTH) -> None:
        """`reference` is counts (blocks, categories), from a time that was good.

        Raises:
            ValueError: fewer than two blocks or queries than `MIN_REFERENCE`.
        """
        total = reference.sum()
        if len(reference) < 2 or total < MIN_REFERENCE:
            raise ValueError(
                f"a reference of {len(reference)} blocks and {total} queries; expected two blocks "
                f"and {MIN_REFERENCE} queries"
            )
        self._expected: Floats = (reference.sum(axis=0) + 0.5) / (total + 0.5 * reference.shape[1])
        self.dispersion = _dispersion(reference, self._expected)
        categories = int((reference.sum(axis=0) > 0).sum())
        # A bet that follows the error of the reference itself would win this much a query.
        error = float(chi2.ppf(REFERENCE_CONFIDENCE, max(1, categories - 1))) / float(total)
        self._slack = _MIXES * error
        self._recent: Floats = np.zeros(reference.shape[1])
        self._detector = Detector(len(_MIXES), run_length)

    def absorb(self, counts: Counts) -> bool:
        """One block, by category. Whether it is an alarm."""
        queries = round(float(counts.sum()))  # scaled counts are no whole numbers
        if not queries:
            return False
        alarm = False
        recent = float(self._recent.sum())
        if recent:
            seen = (self._recent + 20 * self._expected) / (recent + 20)
            mixed = (1 - _MIXES[:, None]) * self._expected + _MIXES[:, None] * seen
            won = np.log(mixed / self._expected) @ counts
            ratios = np.asarray(won - queries * self._slack, np.float64)
            alarm = self._detector.absorb(ratios / self.dispersion, queries)
        self._recent = 0.5 ** (queries / HALF_LIFE) * self._recent + counts
        return alarm

    @property
    def log_value(self) -> float:
        """Evidence since the last alarm; the alarm is at `log_limit`."""
        return self._detector.log_value

    @property
    def log_limit(self) -> float:
        """For blocks as large as the last one."""
        return self._detector.log_limit

    def measures(self) -> Mapping[str, float]:
        """Of the recent blocks against the reference, for dashboards."""
        return {
            "psi": psi(self._expected, self._recent),
            "ks": kolmogorov_smirnov(self._expected, self._recent),
            "wasserstein": wasserstein(self._expected, self._recent),
        }


class RoutingMix:
    """Do both arms get the same queries at the same time? If not, routing is at fault.

    That is not drift: both arms see every change over time. Each category against the rest is a
    2x2 table in every block, tested both ways; it must stay rarer than one false alarm in 1,000.
    """

    def __init__(self, categories: int) -> None:
        bets = np.log(np.array([1.2, 1.5, 2.0, 5.0]))
        self._bets = np.concatenate([-bets, bets])
        self._log_values = np.zeros((categories, len(self._bets)))

    def absorb(self, candidate: Ints, control: Ints) -> None:
        """One block: queries of each arm, by category."""
        mine, others = candidate.sum(), control.sum()
        shape = candidate.shape
        table = Table(np.full(shape, mine), candidate, np.full(shape, others), control)
        self._log_values += log_odds_ratios(table, self._bets, 0.0)

    @property
    def log_value(self) -> float:
        """Evidence that the arms get different queries."""
        return float(log_mean(self._log_values.ravel()))

    @property
    def is_violated(self) -> bool:
        """Once true, it may be told."""
        return self.log_value >= -log(ROUTING_ALPHA)


@dataclass(frozen=True, slots=True)
class HourMix:
    """The hours of a day's queries against those of days before."""

    psi: float
    limit: float
    """The psi that days of the reference had at most among themselves, and a half more."""

    @property
    def is_shifted(self) -> bool:
        """More than days differ anyway."""
        return self.psi > self.limit


def hour_mix(days: Ints, today: Ints) -> HourMix:
    """`days` is queries (days, 24) of the reference, `today` (24,).

    Raises:
        ValueError: fewer than three days: how days differ cannot be told.
    """
    if len(days) < 3:
        raise ValueError(f"{len(days)} days of reference; expected at least 3")
    apart = [psi(days.sum(axis=0) - day, day) for day in days]
    return HourMix(psi(days.sum(axis=0), today), 1.5 * max(apart))


# ---- for dashboards ----------------------------------------------------------------------------


def psi(expected: NDArray[np.number], seen: NDArray[np.number]) -> float:
    """Population stability index of two histograms; half a count is added to each bin."""
    p, q = _parts(expected), _parts(seen)
    return float(((q - p) * np.log(q / p)).sum())


def kolmogorov_smirnov(expected: NDArray[np.number], seen: NDArray[np.number]) -> float:
    """Largest distance of the two distributions, at the edges of bins."""
    return float(np.abs(np.cumsum(_parts(seen) - _parts(expected))).max())


def wasserstein(expected: NDArray[np.number], seen: NDArray[np.number]) -> float:
    """Bins that a query has to be moved, on average, to make the one histogram the other."""
    return float(np.abs(np.cumsum(_parts(seen) - _parts(expected))).sum())


def _parts(counts: NDArray[np.number]) -> Floats:
    raised = np.asarray(counts, np.float64) + (0.5 if counts.sum() > 1.5 else 1e-6)
    return np.asarray(raised / raised.sum())


def _dispersion(counts: Counts, expected: Floats) -> float:
    """How much more blocks vary than independent draws; at least 1."""
    means = counts.sum(axis=1, keepdims=True) * expected
    used = expected > 0
    freedom = (len(counts) - 1) * max(1, int((counts.sum(axis=0) > 0).sum()) - 1)
    return max(1.0, float((((counts - means) ** 2)[:, used] / means[:, used]).sum() / freedom))
