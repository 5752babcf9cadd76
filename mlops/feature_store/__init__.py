"""The feature store: rows of answered requests in ClickHouse, and what is read of them.

`ClickHouseFeatureStore` is imported when it is asked for: the recorder and the agent, which import
modules of this package, need none of what it brings.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlops.feature_store.store import AsyncClickHouseFeatureStore, ClickHouseFeatureStore

__all__ = ["AsyncClickHouseFeatureStore", "ClickHouseFeatureStore"]


def __getattr__(name: str) -> object:
    if name in __all__:
        return getattr(import_module("mlops.feature_store.store"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
