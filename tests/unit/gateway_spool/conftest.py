"""Exchanges to spool, and what they hold."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gateway.record import ExchangeRecord
from gateway.spool.format import SpooledExchange
from tests.exchanges import recorded


@pytest.fixture
def exchange() -> Callable[..., ExchangeRecord]:
    return recorded


def as_dict(record: ExchangeRecord | SpooledExchange) -> dict[str, object]:
    return {name: getattr(record, name) for name in ExchangeRecord.__slots__}


@pytest.fixture
def fields() -> Callable[[ExchangeRecord | SpooledExchange], dict[str, object]]:
    """Everything in a record, to compare two."""
    return as_dict
