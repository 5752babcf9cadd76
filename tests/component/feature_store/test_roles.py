"""What a role is granted is enough for its work and allows nothing else: tried on the engine.

The embedded engine makes no roles, but takes ClickHouse's own file of users. There its only user is
granted what `role_statements` grants to one role.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import pytest

from mlops.contracts.record import Row
from mlops.contracts.tally import Tally, TallyEntry
from mlops.feature_store import AsyncClickHouseFeatureStore
from mlops.feature_store.batch import RECOUNTS, batch_of
from mlops.feature_store.connection import never_dropped, open_client
from mlops.feature_store.embedding_sums import EmbeddingSample
from mlops.feature_store.entries import DeadLetter, Evaluation, ReleaseEvent
from mlops.feature_store.errors import Unavailable
from mlops.feature_store.log import FeatureLog
from mlops.feature_store.migrations import migrate, pending
from mlops.feature_store.noise import Among
from mlops.feature_store.offered import Defaults, row_of
from mlops.feature_store.roles import ROLES, role_statements
from mlops.feature_store.settings import ClickHouseSettings
from mlops.feature_store.tables import DEAD_LETTERS, EVALUATIONS, ROWS, SECONDS, TALLIES
from tests.modules import port_of, serving

DATABASE = "rag"
SECOND = int(time.time()) - 3_600
"""Lately: what is over its age would go when the engine starts again."""
AT = datetime.fromtimestamp(SECOND, UTC)
TALLY = Tally(
    worker="w",
    second=SECOND + 1,
    entries=(TallyEntry(route="rag", arm="stable", generation=0, answered=3),),
)
SCORE = Evaluation(request_id="asked", name="mrr", score=0.5, received_at=AT)
CONFIG = """<clickhouse>
  <user_directories><users_xml><path>{path}</path></users_xml></user_directories>
  <profiles><default/></profiles>
  <quotas><default/></quotas>
  <users><default>
    <no_password/><profile>default</profile><quota>default</quota>
    <networks><ip>::/0</ip></networks>
    <grants>{grants}</grants>
  </default></users>
</clickhouse>
"""


def grants_of(role: str) -> list[str]:
    end = f" TO rag_mlops_{role}"
    statements = role_statements(DATABASE)
    return [
        each.removesuffix(end)
        for each in statements
        if each.startswith("GRANT ") and each.endswith(end)
    ]


@contextmanager
def engine(path: Path, *options: str) -> Iterator[ClickHouseSettings]:
    with serving("mlops.local.clickhouse", "--path", str(path), *options) as address:
        yield ClickHouseSettings(host="127.0.0.1", port=port_of(address), database=DATABASE)


def rows(first: int) -> list[Row]:
    return [
        row_of(
            {"query_id": "q", "query_text": "x", "route": "rag", "embedding": [0.5, 0.25],
             "request_id": "asked", "ended_at": AT},
            record_id=f"r{first + number}", now=AT, defaults=Defaults(),
        )
        for number in range(3)
    ]  # fmt: skip


@dataclass(frozen=True, slots=True)
class As:
    """One role at work."""

    settings: ClickHouseSettings
    log: FeatureLog
    client: Any

    async def is_denied(self, statement: str) -> bool:
        try:
            await self.client.command(statement)
        except Exception as error:
            return "ACCESS_DENIED" in str(error)
        return False


async def writes(role: As) -> None:
    await role.log.insert_rows(rows(10), token="w/1..2")
    for recount in RECOUNTS:  # what makes a batch whole after a crash
        await role.client.command(
            recount, parameters=batch_of(rows(10), "w/1..2").reach, settings=never_dropped()
        )
    await role.log.insert_tallies([TALLY], token="t")
    letter = DeadLetter(record_id="r", route="rag", reason="bad", payload_excerpt="", at=AT)
    await role.log.insert_dead_letters([letter], token="d")
    await role.log.read_completeness()
    async with AsyncClickHouseFeatureStore(role.settings) as store:
        await store.store_query_features({"query_id": "q", "query_text": "x"})
        await store.record_evaluation("q", "mrr", 0.5)
        hour = AT.replace(minute=0, second=0)
        await store.refresh_model_performance(hour, hour + timedelta(hours=1))
    assert await role.is_denied(f"SELECT payload_excerpt FROM {DEAD_LETTERS}")


async def judges(role: As) -> None:
    evidence = await role.log.read_evidence("rag", since=SECOND - 5)
    assert evidence.seconds
    assert evidence.answered
    assert evidence.scores
    await role.log.insert_evaluations([SCORE], token="again")
    await role.log.insert_release_event(
        ReleaseEvent(
            release_id="1", route="rag", at=AT, kind="started", actor="ann",
            from_share_bp=0, to_share_bp=500,
        )
    )  # fmt: skip
    span = {"since": SECOND - 5, "until": SECOND + 5}
    await role.log.read_embedding_sums("rag", **span)
    await role.log.read_embedding_sample(EmbeddingSample("rag", "", 2, 10), **span)
    await role.log.read_hours("rag", **span)
    await role.log.read_queries("rag", order="newest", arm="", minutes=5, limit=5)
    await role.log.read_pairs("rag", **span)
    await role.log.read_stable_requests(**span)
    await role.log.read_noise("rag", Among.ENDPOINTS, **span, every_s=1)
    await role.log.read_texts("rag", ["q"], **span)
    await role.log.read_splits("rag", **span)
    assert await role.is_denied(f"SELECT count() FROM {DEAD_LETTERS}")
    with pytest.raises(Unavailable, match="ACCESS_DENIED"):
        await role.log.insert_rows(rows(20), token="a/1..2")


async def reads(role: As) -> None:
    tables = next(each.selects for each in ROLES if each.name == "reader")
    for table in tables:
        await role.client.query(f"SELECT * FROM {table} LIMIT 1")
    async with AsyncClickHouseFeatureStore(role.settings) as store:
        assert len(await store.get_training_data(limit=10)) == 3
        await store.feature_statistics()
        await store.get_model_performance_history("m", days=1)
    assert await role.is_denied(f"INSERT INTO {EVALUATIONS} (request_id) VALUES ('q')")
    assert await role.is_denied(f"INSERT INTO {TALLIES} (worker) VALUES ('w')")


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the schema and a few rows, made by who may do everything."""
    return tmp_path_factory.mktemp("roles") / "db"


@pytest.mark.parametrize(
    ("name", "work"), [("reader", reads), ("agent", judges), ("writer", writes)]
)
async def test_a_role_can_do_its_work_and_nothing_else(
    name: str, work: Callable[[As], Awaitable[None]], migrated: Path, tmp_path: Path
) -> None:
    if not migrated.exists():
        with engine(migrated) as settings:
            await migrate(settings)
            log = await FeatureLog.connect(settings)
            await log.insert_rows(rows(0), token="first")
            await log.insert_tallies([TALLY], token="first")
            await log.insert_evaluations([SCORE], token="first")
            await log.close()
    config = tmp_path / "config.xml"
    grants = "".join(f"<query>{escape(each)}</query>" for each in grants_of(name))
    config.write_text(CONFIG.format(path=config, grants=grants))
    with engine(migrated, "--config", str(config)) as settings:
        log = await FeatureLog.connect(settings)
        client = await open_client(settings, database=DATABASE)
        role = As(settings, log, client)
        try:
            assert not await pending(settings)
            await work(role)
            for beyond in (
                f"DROP TABLE {SECONDS}",
                f"ALTER TABLE {ROWS} DELETE WHERE 1",
                f"TRUNCATE TABLE {ROWS}",
                "CREATE TABLE other (a UInt8) ENGINE = Memory",
                "CREATE DATABASE other",
            ):
                assert await role.is_denied(beyond), beyond
        finally:
            await client.close()
            await log.close()
