"""How much is inserted together."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.recorder.batches import Batch, batch_bytes_of
from gateway.recorder.entries import Entry
from gateway.recorder.settings import RecorderSettings
from gateway.spool.reader import Position

SETTINGS = RecorderSettings(spool_dir=Path("spool"))


@given(st.integers(1, 64))
def test_all_that_is_in_hand_has_one_bound_for_all_workers(workers: int) -> None:
    each = batch_bytes_of(SETTINGS, workers)
    assert 2 * workers * each <= SETTINGS.bytes_in_hand
    assert 0 < each <= SETTINGS.batch_bytes


def test_a_few_workers_have_batches_of_the_full_size() -> None:
    assert {batch_bytes_of(SETTINGS, workers) for workers in range(5)} == {SETTINGS.batch_bytes}


@pytest.mark.parametrize(("most_bytes", "taken"), [(100, 1), (101, 2), (1_000, 10)])
def test_a_batch_is_full_once_it_weighs_enough(most_bytes: int, taken: int) -> None:
    batch = Batch(SETTINGS)
    entry = Entry(start=Position(), end=Position(), weight_bytes=100)
    while not batch.is_full(0.0, most_bytes):
        batch.add(entry, 0.0)
    assert len(batch.entries) == taken
