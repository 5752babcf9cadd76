"""Histograms, ages, and tallies by the second in which an exchange ended."""

from __future__ import annotations

import pytest

from gateway.counters import Histogram, TallyCell, age_name, new_series
from gateway.record import OUTCOMES


def test_a_value_is_counted_in_the_first_bucket_that_holds_it():
    histogram = Histogram((10, 20))
    for value_us in (1000, 0, 11, 10, 20, 21):
        histogram.add(value_us)
    assert histogram.counts == [2, 2, 2]
    assert (histogram.count, histogram.sum_us) == (6, 1062)


def test_a_series_counts_every_exchange():
    series = new_series("rag", "stable", "1")[0]
    for number in range(5):
        series.add(number, 1, 2)
    assert series.count == 5
    assert series.latency.sum_us == sum(range(5))
    assert series.first_byte.sum_us == 5
    assert series.own.sum_us == 10


@pytest.mark.parametrize(
    ("age_s", "name"), [(0, "1s"), (1, "1s"), (1.1, "10s"), (59, "60s"), (61, "older")]
)
def test_ages_are_named_by_their_limit(age_s, name):
    assert age_name(age_s) == name


def test_a_tally_takes_what_ended_up_to_its_second_and_leaves_the_rest():
    cell = TallyCell("rag", "canary", 3)
    cell.answered = {10: 4, 11: 5, 12: 1}
    cell.drop(11, "spool_full")
    cell.drop(11, "spool_full")
    cell.drop(12, "too_large")
    entry = cell.take(11, [0.5, 30.0, 31.0])
    assert entry is not None
    assert (entry.route, entry.arm, entry.generation) == ("rag", "canary", 3)
    assert (entry.answered, entry.dropped) == (9, {"spool_full": 2})
    assert entry.in_flight == {"1s": 1, "60s": 2}
    last = cell.take(12, [])
    assert last is not None
    assert (last.answered, last.dropped) == (1, {"too_large": 1})
    assert cell.is_empty
    assert cell.take(13, []) is None


def test_a_series_for_every_outcome():
    assert [series.outcome for series in new_series("rag", "stable", "1")] == list(OUTCOMES)
