"""A network that loses answers: the outcome of an insert is unknown, and a retry is safe."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from mlops.feature_store import connection, log
from mlops.feature_store.connection import open_client
from mlops.feature_store.log import FeatureLog, Unavailable
from mlops.feature_store.settings import ClickHouseSettings
from tests.stored_rows import stored_row

NOON = datetime(2026, 4, 1, 12, 0, tzinfo=UTC)
ROWS = [stored_row(record_id=f"w-1-{number}", ended_at=NOON) for number in range(500)]


class LossyNetwork:
    """Forwards everything to the engine; what comes back is forwarded, cut or held."""

    def __init__(self, engine_port: int) -> None:
        self.engine_port = engine_port
        self.answers = "forwarded"
        self.lost = 0
        """Answers that the engine gave and nobody got."""

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        engine_reader, engine_writer = await asyncio.open_connection("127.0.0.1", self.engine_port)
        sending = asyncio.ensure_future(_pump(reader, engine_writer))
        try:
            while data := await engine_reader.read(65_536):
                if self.answers == "forwarded":
                    writer.write(data)
                    continue
                self.lost += 1
                if self.answers == "cut":
                    writer.transport.abort()
                    break
        finally:
            sending.cancel()
            engine_writer.close()
            writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
    writer.close()


@pytest.fixture
def network(settings: ClickHouseSettings) -> LossyNetwork:
    return LossyNetwork(settings.port)


@pytest.fixture
async def lossy_log(
    network: LossyNetwork, settings: ClickHouseSettings
) -> AsyncIterator[FeatureLog]:
    server = await asyncio.start_server(network.connected, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    log = await FeatureLog.connect(
        ClickHouseSettings(host="127.0.0.1", port=port, database=settings.database)
    )
    yield log
    await log.close()
    server.close()


async def totals(settings: ClickHouseSettings) -> tuple[int, int]:
    client = await open_client(settings, database=settings.database)
    try:
        sql = "SELECT (SELECT count() FROM query_features), (SELECT sum(rows) FROM second_counts)"
        ((rows, counted),) = (await client.query(sql)).result_rows
        return rows, counted
    finally:
        await client.close()


@pytest.mark.parametrize("answers", ["cut", "held"])
async def test_an_insert_whose_answer_was_lost_may_be_repeated(
    network: LossyNetwork,
    lossy_log: FeatureLog,
    settings: ClickHouseSettings,
    monkeypatch: pytest.MonkeyPatch,
    answers: str,
) -> None:
    monkeypatch.setattr(connection, "CALL_TIMEOUT_S", 2.0)
    network.answers = answers
    with pytest.raises(Unavailable):
        await lossy_log.insert_rows(ROWS, token="w/1")
    assert network.lost >= 1
    assert (await totals(settings))[0] == len(ROWS)

    network.answers = "forwarded"
    await lossy_log.insert_rows(ROWS, token="w/1")

    assert await totals(settings) == (len(ROWS), len(ROWS))


async def test_a_batch_is_never_called_refused_once_it_was_inserted(
    feature_log: FeatureLog, settings: ClickHouseSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine refuses a value of the verifying question, in the words it has for bad rows."""
    with monkeypatch.context() as patched:
        patched.setattr(log, "COUNT_STORED", "SELECT toUInt64('x'), 0")
        with pytest.raises(Unavailable, match=r"w/1 was inserted but not verified.*code 6\)"):
            await feature_log.insert_rows(ROWS, token="w/1")
    assert await totals(settings) == (len(ROWS), len(ROWS))

    await feature_log.insert_rows(ROWS, token="w/1")

    assert await totals(settings) == (len(ROWS), len(ROWS))


async def test_a_silent_engine_is_waited_for_no_longer_than_the_bound(
    network: LossyNetwork, lossy_log: FeatureLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "CALL_TIMEOUT_S", 0.5)
    network.answers = "held"

    with pytest.raises(Unavailable, match=r"took over 0\.5 s"):
        await lossy_log.read_evidence("rag", since=0)
