"""What accumulates from block to block.

The first axis of every array is either the run (many releases, one block of each) or the block
(many blocks of one release, in the order of time). Both go through the same tests; only what is
carried from block to block differs, and all of that is here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.judge.eprocess import Floats, Ints

Bools = NDArray[np.bool_]
Array = NDArray[Any]

PLANNED_BLOCKS = 720
"""An hour of 5 s blocks; one expected change of bet in that time."""
SWITCH = 1 / PLANNED_BLOCKS
CASH = 0.05
"""Of the wealth at first, and of what is switched."""
LOG_CEILING = 50.0
"""Far beyond any threshold; a higher value adds nothing and would only delay coming back."""

OVER_TIME = None
"""In place of a number of runs: one release, and blocks as the first axis."""


class Sums:
    """Sums over all blocks so far, or over the last `window` of them."""

    def __init__(
        self, runs: int | None, *shape: int, window: int | None = None, dtype: type = np.int64
    ) -> None:
        """`shape` is that of one block of one run; `dtype` is how single blocks are kept."""
        self._is_over_time = runs is OVER_TIME
        whole = shape if runs is OVER_TIME else (runs, *shape)
        self._sum: Array = np.zeros(whole, np.float64 if dtype is np.float64 else np.int64)
        self._kept: Array | None = None if window is None else np.zeros((window, *whole), dtype)
        self._oldest = 0

    def push(self, values: Array) -> tuple[Array, Array]:
        """The sums before and after each block."""
        if self._is_over_time:
            return self._push_blocks(values)
        before, after = self._push_blocks(values[None])
        return before[0], after[0]

    def _push_blocks(self, values: Array) -> tuple[Array, Array]:
        change = values if self._kept is None else values - self._leaving(self._kept, values)
        sums = np.concatenate([self._sum[None], change])
        np.cumsum(sums, axis=0, out=sums)
        self._sum = sums[-1]
        return sums[:-1], sums[1:]

    def _leaving(self, kept: Array, values: Array) -> Array:
        """What leaves the window as each block comes; the last of them are kept in their place."""
        window, count = len(kept), len(values)
        stays = min(window, count)
        first = (self._oldest + np.arange(stays)) % window
        leaving: Array = np.concatenate([kept[first], values[: count - stays]])
        self._oldest = (self._oldest + count) % window
        kept[(self._oldest - stays + np.arange(stays)) % window] = values[count - stays :]
        return leaving


class Least:
    """The least number so far."""

    def __init__(self, runs: int | None) -> None:
        self._is_over_time = runs is OVER_TIME
        self._least: Floats = np.full(1 if runs is OVER_TIME else runs, np.inf)

    def push(self, values: Floats) -> Floats:
        """The least after each block."""
        if not self._is_over_time:
            self._least = np.minimum(self._least, values)
            return self._least
        least = np.minimum.accumulate(np.concatenate([self._least, values]))
        self._least = least[-1:]
        return np.asarray(least[1:])


class FixedShareOverTime:
    """Bets mixed with a small fixed switching rate, so that a late change is found as fast.

    A convex mixture chosen before the block is an e-value, hence the product is an e-process
    (Herbster and Warmuth 1998). Some of the wealth is kept in cash, which neither wins nor loses:
    hours in which every bet lost leave enough to bet with. The value is cut off at a ceiling, which
    only lowers it. Here for many blocks at once: they are the first axis.
    """

    def __init__(self, shape: tuple[int, ...], bets: int, *, rests: bool = False) -> None:
        """`rests`: a block that is not active lets the bets rest, instead of changing nothing.

        Every ratio is 1 then, and the bets are only mixed again, when next needed.
        """
        self._is_resting = rests
        self._prior: Floats = np.append(np.full(bets, (1 - CASH) / bets), CASH)
        self._parts: Floats = np.broadcast_to(self._prior, (*shape, bets + 1))
        """Of the wealth, by bet, cash last."""
        self._rests = 0
        """Blocks since the last one in which anything could be won."""
        self.log_value: Floats = np.zeros((1, *shape))
        """After each block; before the first ones, of nothing."""

    def absorb(
        self,
        log_ratios: Floats,
        ceiling: float | Floats = LOG_CEILING,
        active: Bools | None = None,
    ) -> None:
        """More blocks, of which only the active ones count; bets are the last axis."""
        count, before = len(log_ratios), self.log_value[-1:]
        if active is None or active.all():
            resting = self._resting(np.arange(count), count) if self._is_resting else None
            self.log_value = _capped(before, self._gains(log_ratios, resting), ceiling)
            return
        which = np.flatnonzero(active)
        resting = self._resting(which, count) if self._is_resting else None
        limit = ceiling if isinstance(ceiling, float) else ceiling[which]
        gained = self._gains(log_ratios[which], resting)
        after = np.concatenate([before, _capped(before, gained, limit)])
        self.log_value = after[np.cumsum(active)]

    def _resting(self, which: Ints, count: int) -> Ints:
        """How many blocks just before each active one were none."""
        resting = np.diff(np.append(which, count), prepend=-1) - 1
        resting[0] += self._rests
        self._rests = int(resting[-1])
        return np.asarray(resting[:-1])

    def _gains(self, log_ratios: Floats, resting: Ints | None) -> Floats:
        cash = np.zeros((*log_ratios.shape[:-1], 1))
        every = np.concatenate([log_ratios, cash], axis=-1)
        highest = every.max(axis=-1, keepdims=True)
        ratios = np.exp(every - highest)
        totals = np.empty_like(highest)
        parts, mixed = self._parts, SWITCH * self._prior
        for index, ratio in enumerate(ratios):
            if resting is not None and resting[index]:
                kept = (1 - SWITCH) ** int(resting[index])
                parts = kept * parts + (1 - kept) * self._prior
            wealth = parts * ratio
            total = np.add.reduce(wealth, axis=-1, keepdims=True)
            totals[index] = total
            parts = (1 - SWITCH) / total * wealth + mixed
        self._parts = parts
        return np.asarray((highest + np.log(totals))[..., 0])


class FixedShare:
    """The same for many cases, one block at a time: cases are the first axes."""

    def __init__(self, shape: tuple[int, ...], bets: int, *, rests: bool = False) -> None:
        self._over_time = FixedShareOverTime(shape, bets, rests=rests)

    @property
    def log_value(self) -> Floats:
        """After the last block."""
        return np.asarray(self._over_time.log_value[-1])

    def absorb(
        self,
        log_ratios: Floats,
        ceiling: float | Floats = LOG_CEILING,
        active: Bools | None = None,
    ) -> None:
        """One more block; it counts if any case is active."""
        limit = ceiling if isinstance(ceiling, float) else ceiling[None]
        any_active = None if active is None else np.array([active.any()])
        self._over_time.absorb(log_ratios[None], limit, any_active)


def _capped(before: Floats, gained: Floats, ceiling: float | Floats) -> Floats:
    """Running sums from `before` on, each cut off at the ceiling."""
    values = np.concatenate([before, gained])
    values = np.cumsum(values, axis=0, out=values)[1:]
    if (values <= ceiling).all():
        return np.asarray(values)
    value, limits = before[0], np.broadcast_to(ceiling, values.shape)
    for index, gain in enumerate(gained):
        value = values[index] = np.minimum(limits[index], value + gain)
    return np.asarray(values)


def fixed_share(
    runs: int | None, *shape: int, bets: int, rests: bool = False
) -> FixedShare | FixedShareOverTime:
    """Of so many runs, or of one over time."""
    if runs is OVER_TIME:
        return FixedShareOverTime(shape, bets, rests=rests)
    return FixedShare((runs, *shape), bets, rests=rests)


def carried(before: Array, blocks: Array) -> Array:
    """What there was after each block, and in front of all what there was before the first."""
    return np.concatenate([before[-1:], blocks])
