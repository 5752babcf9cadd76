"""How a store of the blocking kind ends, with `close` and without."""

from __future__ import annotations

import threading

import pytest

from mlops.feature_store import ClickHouseFeatureStore
from mlops.feature_store.settings import ClickHouseSettings


def threads() -> int:
    return sum(one.name == "feature store" for one in threading.enumerate())


def test_a_store_that_nobody_closes_ends_with_its_last_reference() -> None:
    before = threads()
    store = ClickHouseFeatureStore(ClickHouseSettings())
    assert threads() == before + 1
    del store
    assert threads() == before


def test_a_closed_store_says_so_and_may_be_closed_again() -> None:
    before = threads()
    store = ClickHouseFeatureStore(ClickHouseSettings())
    store.close()
    store.close()
    assert threads() == before
    with pytest.raises(RuntimeError, match="the feature store is closed"):
        store.get_training_data()
