"""The client of ClickHouse, and its errors in our words."""

from __future__ import annotations

import asyncio
import secrets
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import clickhouse_connect
from aiohttp import ClientError
from clickhouse_connect.driver.exceptions import (
    ClickHouseError,
    DatabaseError,
    DataError,
)

from mlops.feature_store.cluster import CLUSTER_SETTINGS
from mlops.feature_store.errors import Refused, Unavailable
from mlops.feature_store.settings import ClickHouseSettings

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 30.0
"""Longest silence on one request; inserts and reads here take tens of milliseconds."""

CALL_TIMEOUT_S = 45.0
"""Longest time of one call with the client's own retries; past it the outcome is unknown."""

_DATA_CODES = frozenset(
    {
        6,  # CANNOT_PARSE_TEXT
        26,  # CANNOT_PARSE_QUOTED_STRING
        27,  # CANNOT_PARSE_INPUT_ASSERTION_FAILED
        41,  # CANNOT_PARSE_DATETIME
        53,  # TYPE_MISMATCH
        69,  # ARGUMENT_OUT_OF_BOUND
        70,  # CANNOT_CONVERT_TYPE
        72,  # CANNOT_PARSE_NUMBER
        117,  # INCORRECT_DATA
        128,  # TOO_LARGE_ARRAY_SIZE
        131,  # TOO_LARGE_STRING_SIZE
        321,  # VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE
        349,  # CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN
    }
)
"""Codes that blame the values sent; every other one may pass with time or with an operator.
CANNOT_READ_ALL_DATA (33) is not among them: a body that was cut on its way looks like that."""


async def open_client(settings: ClickHouseSettings, *, database: str | None) -> Any:
    """A client without a session, so that calls may run at the same time.

    Raises:
        Unavailable: nobody answers there, or not as ClickHouse.
    """
    async with translated(settings, "connect"):
        return await clickhouse_connect.get_async_client(
            host=settings.host,
            port=settings.port,
            username=settings.user,
            password=settings.password,
            database=database,
            connect_timeout=CONNECT_TIMEOUT_S,
            send_receive_timeout=READ_TIMEOUT_S,
            autogenerate_session_id=False,
            compress="lz4",
            settings=CLUSTER_SETTINGS if settings.cluster else {},
        )


def never_dropped() -> dict[str, object]:
    """Settings of an insert that the engine must not take for a repeated one.

    A token of its own: `insert_deduplicate = 0` is heard by some versions and not by others.
    """
    return {"insert_deduplication_token": secrets.token_hex(16)}


@asynccontextmanager
async def translated(settings: ClickHouseSettings, what: str) -> AsyncIterator[None]:
    """Run one call: bounded in time, its failures told as `Unavailable` or `Refused`."""
    place = f"ClickHouse at {settings.host}:{settings.port}"
    try:
        async with asyncio.timeout(CALL_TIMEOUT_S):
            yield
    except DataError as error:
        raise Refused(f"{what}: the values do not fit their columns: {error}") from error
    except DatabaseError as error:
        code = getattr(error, "code", None)
        if code in _DATA_CODES:
            raise Refused(f"{what}: {place} refused the values (code {code}): {error}") from error
        raise Unavailable(f"{what}: {place}: {error}") from error
    except (struct.error, OverflowError, TypeError, ValueError, AttributeError) as error:
        # The client packs values into columns with these; no request has been completed.
        raise Refused(f"{what}: the values do not fit their columns: {error!r}") from error
    except TimeoutError as error:
        raise Unavailable(f"{what}: {place} took over {CALL_TIMEOUT_S:g} s") from error
    except (ClickHouseError, ClientError, OSError) as error:
        raise Unavailable(f"{what}: {place}: {error}") from error
