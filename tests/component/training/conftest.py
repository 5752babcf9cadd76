"""Real traffic in a real engine: numpy's docstrings as documents, their summaries as questions."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import count, islice
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mlops.artifact_store import MinIOArtifactStore
from mlops.config import MinioSettings, MlflowSettings, MlopsConfig, read_config
from mlops.feature_store import ClickHouseFeatureStore
from mlops.feature_store.migrations import migrate
from mlops.feature_store.settings import ClickHouseSettings
from mlops.local.processes import Command, start, stop
from mlops.serving.corpus import Corpus, corpus_of, folder_of, installed_docstrings
from mlops.serving.docstrings import docstrings_under
from mlops.serving.embedder import Embedder
from mlops.serving.index import Index
from mlops.training import steps
from mlops.training.documents import Documents
from mlops.training.outcomes import Evaluated, Extracted, Step, Trained, Validated
from mlops.training.partition import Partition
from mlops.training.plan import Labelling, Plan, Window
from tests.modules import port_of, serving

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
WINDOW = Window(since=NOON - timedelta(days=7), until=NOON, as_of=NOON + timedelta(hours=1))
TOP_K = 20
DOCSTRINGS = 900
_names = count(1)

Row = dict[str, Any]


@pytest.fixture(scope="session")
def corpus() -> Corpus:
    """Passages of one package."""
    folder = folder_of("numpy")
    found = islice(docstrings_under(folder, "numpy"), DOCSTRINGS)
    ufuncs = next(found for domain, found in installed_docstrings() if domain == "numpy")
    return corpus_of([("numpy", ufuncs), ("numpy", found)])


@pytest.fixture(scope="session")
def documents(corpus: Corpus) -> Documents:
    return Documents.of_corpus(corpus)


@pytest.fixture(scope="session")
def traffic(corpus: Corpus) -> list[Row]:
    """Every summary asked once, answered by the frozen encoder, and judged by its rank."""
    embedder = Embedder()
    index = Index(embedder.embed([one.passage for one in corpus.documents]))
    questions = embedder.embed([one.summary for one in corpus.documents])
    rows: list[Row] = []
    for number, (document, question) in enumerate(zip(corpus.documents, questions, strict=True)):
        hits = index.nearest(question, TOP_K)
        ids = [corpus.documents[row].id for row, _ in hits]
        rank = ids.index(document.id) + 1 if document.id in ids else 0
        rows.append(
            {
                "query_id": f"q{number}",
                "request_id": f"r{number}",
                "user_id": f"u{number % 7}",
                "query_text": document.summary,
                "embedding": question,
                "relevance_score": 1 / rank if rank else 0.0,
                "retrieved_ids": ids,
                "retrieved_scores": [score for _, score in hits],
                "ended_at": WINDOW.since + timedelta(minutes=5 * number),
                "version": "1.0.0",
            }
        )
    return rows


@pytest.fixture(scope="session")
def engine_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    path = str(tmp_path_factory.mktemp("engine"))
    with serving("mlops.local.clickhouse", "--path", path) as address:
        yield port_of(address)


@pytest.fixture(scope="session")
def store(engine_port: int) -> Iterator[ClickHouseFeatureStore]:
    """A migrated database. Tests share it: each has a route of its own."""
    settings = ClickHouseSettings(host="127.0.0.1", port=engine_port, database="training")
    asyncio.run(migrate(settings))
    with ClickHouseFeatureStore(settings) as opened:
        yield opened


@pytest.fixture
def route() -> str:
    """Whose traffic a test writes and reads."""
    return f"route-{next(_names)}"


def on_route(rows: Iterable[Row], route: str) -> list[Row]:
    return [{**row, "route": route} for row in rows]


@pytest.fixture(scope="session")
def evaluated(
    tmp_path_factory: pytest.TempPathFactory,
    store: ClickHouseFeatureStore,
    documents: Documents,
    traffic: list[Row],
) -> Partition:
    """A partition that has been trained and found better. Tests that change one take a copy."""
    made = Partition(tmp_path_factory.mktemp("partitions"), "2026-01-31")
    store.store_many(on_route(traffic, "trained"))
    plan = new_plan(route="trained")
    extracted = steps.extract(plan, made, store=store, documents=documents)
    assert isinstance(extracted, Extracted)
    assert isinstance(steps.validate(made), Validated)
    assert isinstance(steps.train(made), Trained)
    found = steps.evaluate(made, champion=None)
    assert isinstance(found, Evaluated), found
    return made


@pytest.fixture
def copied(evaluated: Partition, tmp_path: Path) -> Callable[[Step], Partition]:
    """A copy of it as it was before a step, for a model of its own."""

    def copy(step: Step) -> Partition:
        made = Partition(tmp_path, f"copy-{next(_names)}")
        shutil.copytree(evaluated.path, made.path)
        (made.path / "plan.json").unlink()
        made.begin(msgspec.structs.replace(evaluated.plan(), model=f"retriever-{next(_names)}"))
        for later in list(Step)[list(Step).index(step) :]:
            (made.path / f"{later}.json").unlink(missing_ok=True)
        return made

    return copy


@dataclass(frozen=True)
class Servers:
    """A real MLflow and a real S3 server."""

    config: MlopsConfig
    minio: MinioSettings


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    directory: Path = tmp_path_factory.mktemp("servers")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MLOPS_")}
    keys = {"MLOPS_MINIO_ACCESS_KEY": "training", "MLOPS_MINIO_SECRET_KEY": "training-secret"}
    bucket = "models"
    commands = [
        Command(
            name="mlflow",
            arguments=["mlops.local.mlflow_server", "--path", str(directory / "m"), "--port", "0"],
            environment=clean,
        ),
        Command(
            name="s3",
            arguments=[
                *("mlops.local.s3", "--port", "0", "--bucket", bucket),
                *("--path", str(directory / "s3")),
            ],
            environment=clean | keys,
        ),
    ]
    started = []
    try:
        started += [start(command, directory) for command in commands]
        base = read_config({}, directory)
        mlflow, s3 = (one.urls[0] for one in started)
        minio = replace(
            base.minio,
            endpoint=s3.removeprefix("http://"),
            access_key=keys["MLOPS_MINIO_ACCESS_KEY"],
            secret_key=keys["MLOPS_MINIO_SECRET_KEY"],
            bucket_name=bucket,
            cache_dir=directory / "cache",
        )
        settings = MlflowSettings(tracking_uri=mlflow, registry_uri=mlflow, experiment_name="e")
        yield Servers(config=replace(base, mlflow=settings, minio=minio), minio=minio)
    finally:
        for one in started:
            assert not stop([one], lambda one=one: os.waitpid(one.pid, os.WNOHANG))


@pytest.fixture
def artifacts(servers: Servers) -> MinIOArtifactStore:
    return MinIOArtifactStore(servers.minio)


def new_plan(**changed: Any) -> Plan:
    """A plan for a model of its own."""
    return Plan(
        **{
            "model": f"retriever-{next(_names)}",
            "window": WINDOW,
            "labelling": Labelling.RECIPROCAL_RANK,
            **changed,
        }
    )
