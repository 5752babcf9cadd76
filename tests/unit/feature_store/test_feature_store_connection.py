"""Failures of the client are told apart by what the caller should do."""

from __future__ import annotations

import asyncio
import struct

import aiohttp
import pytest
from clickhouse_connect.driver.exceptions import (
    DatabaseError,
    DataError,
    OperationalError,
    ProgrammingError,
)

from mlops.feature_store import connection
from mlops.feature_store.connection import translated
from mlops.feature_store.errors import Refused, Unavailable
from mlops.feature_store.settings import ClickHouseSettings

SETTINGS = ClickHouseSettings(host="db", password="hush")


@pytest.mark.parametrize(
    "failure",
    [
        DataError("cannot pack"),
        DatabaseError("type mismatch", code=53),
        DatabaseError("null in a plain column", code=349),
        struct.error("H format requires 0 <= number <= 65535"),
        OverflowError("too large"),
        TypeError("not a string"),
        UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed"),
    ],
    ids=lambda failure: type(failure).__name__,
)
async def test_values_that_do_not_fit_are_refused(failure: Exception) -> None:
    with pytest.raises(Refused, match="insert batch w/1") as raised:
        async with translated(SETTINGS, "insert batch w/1"):
            raise failure

    assert raised.value.__cause__ is failure


@pytest.mark.parametrize(
    "failure",
    [
        OperationalError("Network Error"),
        DatabaseError("memory limit", code=241),
        DatabaseError("too many parts", code=252),
        DatabaseError("cannot read all data", code=33),
        DatabaseError("unknown table", code=60),
        DatabaseError("a gateway in between answered 502"),
        ProgrammingError("setting is not known"),
        aiohttp.ClientConnectionError("reset"),
        ConnectionRefusedError("nobody there"),
        TimeoutError(),
    ],
    ids=str,
)
async def test_what_may_pass_is_unavailable(failure: Exception) -> None:
    with pytest.raises(Unavailable, match=r"insert batch w/1.*db:8123") as raised:
        async with translated(SETTINGS, "insert batch w/1"):
            raise failure

    assert raised.value.__cause__ is failure
    assert "hush" not in str(raised.value)


async def test_a_call_has_a_longest_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "CALL_TIMEOUT_S", 0.01)
    with pytest.raises(Unavailable, match=r"took over 0\.01 s"):
        async with translated(SETTINGS, "read"):
            await asyncio.Event().wait()


async def test_being_cancelled_is_no_failure_of_the_engine() -> None:
    async def cancelled() -> None:
        async with translated(SETTINGS, "read"):
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await cancelled()
