"""Slow inserts are told, and do not fill the log."""

from __future__ import annotations

from gateway.recorder.delivery import SLOW_AGAIN_S, SLOW_S, Slowness


def test_a_quick_insert_is_no_news() -> None:
    assert not Slowness().is_news(SLOW_S, 0.0)


def test_slow_inserts_are_told_once_a_minute_also_where_quick_ones_lie_between() -> None:
    slowness = Slowness()
    took_s = [2.0, 0.1] * 75
    told_at_s = [
        now_s for now_s, took in enumerate(took_s) if slowness.is_news(took, now_s=float(now_s))
    ]
    assert told_at_s == [0, SLOW_AGAIN_S, 2 * SLOW_AGAIN_S]
