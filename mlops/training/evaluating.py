"""The evaluation of a partition: what is ranked, by whom, and what is left on disk."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from mlops.evaluation.comparison import Comparison, compare
from mlops.evaluation.cost import Cost, cost_of
from mlops.evaluation.lexical import Lexical, lexical_and_hybrid_ranks
from mlops.evaluation.metrics import Ranks
from mlops.evaluation.plots import plots
from mlops.evaluation.report import page
from mlops.evaluation.slices import Asked, Mask, slices_of
from mlops.serving.adapter import adapted_documents, adapted_queries
from mlops.serving.embedder import Vectors
from mlops.serving.files import write_whole
from mlops.serving.model import BadModel, read_adapter, read_manifest
from mlops.training.documents import Documents
from mlops.training.encoders import ServedEncoder
from mlops.training.labelling import Pair, Split
from mlops.training.pairs import ranks_of
from mlops.training.partition import Partition
from mlops.training.plan import Plan
from mlops.training.progress import Progress
from mlops.training.token_texts import Positions
from mlops.training.trainers import embed_documents, embed_queries
from mlops.training.versions import DESCRIPTION, RetrievalModel, load_version

CANDIDATE: Final = "candidate"
FROZEN: Final = "frozen encoder"
LEXICAL: Final = "BM25"
HYBRID: Final = "candidate + BM25"
RECENT_PART: Final = 0.2
"""Of the window, at its end: what the slice `asked: recently` holds."""

FOLDER: Final = "evaluation"
PAGE: Final = "report.html"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The comparison, and what the candidate costs to run."""

    comparison: Comparison
    ranks: dict[str, Ranks]
    cost: Cost


def measure(
    partition: Partition, plan: Plan, pairs: list[Pair], champion: Path | None, progress: Progress
) -> Measured:
    """Rank every held-out query's document by every model.

    Raises:
        BadModel: the champion is not the version that the plan names, or cannot be loaded.
    """
    documents = Documents.read(partition.path)
    held_out = [one for one in pairs if one.split is Split.HELD_OUT]
    position = {name: row for row, name in enumerate(documents.ids)}
    positives = np.array([position[one.document_id] for one in held_out], dtype=np.intp)
    candidate = load_version(partition.path / "model")
    texts = [one.query_text for one in held_out]
    queries = candidate.embed(texts)
    ranks = {CANDIDATE: ranks_of(queries, candidate.vectors, positives)}
    encoder = ServedEncoder()
    frozen_queries = embed_queries(held_out, encoder, partition.path, progress)
    frozen_documents = embed_documents(documents, encoder, partition.path, progress)
    ranks[FROZEN] = ranks_of(frozen_queries, frozen_documents, positives)
    baseline = FROZEN
    if champion is not None:
        baseline = f"champion {plan.champion}"
        ranks[baseline] = _champion_ranks(
            plan, champion, texts, documents, (frozen_queries, frozen_documents, positives)
        )
    ranks[LEXICAL], ranks[HYBRID] = lexical_and_hybrid_ranks(
        Lexical(documents.passages), texts, queries, candidate.vectors, positives
    )
    comparison = compare(
        ranks,
        candidate=CANDIDATE,
        baseline=baseline,
        slices=_slices(plan, pairs, held_out, documents),
        slice_margin=plan.slice_margin,
        seed=plan.seed,
    )
    cost = cost_of(candidate.search, texts, candidate.bytes)
    return Measured(comparison=comparison, ranks=ranks, cost=cost)


def write_report(partition: Partition, plan: Plan, measured: Measured) -> str:
    """Page, plots and figures; the page's path below the partition."""
    folder = partition.path / FOLDER
    images = plots(measured.comparison)
    for name, content in images.items():
        write_whole(folder / name, content)
    figures = {"comparison": measured.comparison, "cost": measured.cost}
    write_whole(folder / "figures.json", msgspec.json.format(msgspec.json.encode(figures)) + b"\n")
    window, cost = plan.window, measured.cost
    facts = {
        "model": plan.model,
        "partition": partition.name,
        "data": f"{window.since:%F %T} to {window.until:%F %T} UTC, as of {window.as_of:%F %T}",
        "trainer": str(plan.trainer),
        "seed": str(plan.seed),
        "one query, alone": f"median {cost.latency_p50_ms:.2f} ms, "
        f"95th percentile {cost.latency_p95_ms:.2f} ms",
        "weights and index": f"{cost.model_bytes / 1e6:.1f} MB",
    }
    title = f"{plan.model}: {partition.name}"
    write_whole(folder / PAGE, page(title, measured.comparison, facts, images).encode())
    return f"{FOLDER}/{PAGE}"


def _champion_ranks(
    plan: Plan,
    folder: Path,
    texts: list[str],
    documents: Documents,
    frozen: tuple[Vectors, Vectors, Positions],
) -> Ranks:
    """The champion's encoder and adapter over the documents of this partition."""
    queries, vectors, positives = frozen
    model = _fine_tuned(folder)
    if model is not None:
        return ranks_of(model.embed(texts), model.embed(documents.passages), positives)
    manifest = read_manifest(folder)
    if manifest.version != plan.champion:
        raise BadModel(f"{folder} is version {manifest.version}; the plan names {plan.champion}")
    adapter = read_adapter(folder, manifest)
    if adapter is not None and adapter.token_weights is not None:
        encoder = ServedEncoder().weighted(adapter.token_weights)
        queries, vectors = encoder.embed(texts), encoder.embed(documents.passages)
    return ranks_of(
        adapted_queries(queries, adapter), adapted_documents(vectors, adapter), positives
    )


def _fine_tuned(folder: Path) -> RetrievalModel | None:
    """The version whose encoder itself was trained; None where only an adapter was."""
    if not (folder / DESCRIPTION).exists():
        return None
    model = load_version(folder)
    return model if model.description.adapter is None else None


def _slices(
    plan: Plan, pairs: list[Pair], held_out: list[Pair], documents: Documents
) -> dict[str, Mask]:
    domain = dict(zip(documents.ids, documents.domains, strict=True))
    trained = {one.document_id for one in pairs if one.split is Split.TRAINING}
    window = plan.window
    recent_since = window.until - RECENT_PART * (window.until - window.since)
    return slices_of(
        [
            Asked(
                text=one.query_text,
                document_id=one.document_id,
                domain=domain[one.document_id],
                first_asked_at=_utc(one.first_asked_at),
            )
            for one in held_out
        ],
        trained_documents=trained,
        trained_domains={domain[name] for name in trained},
        recent_since=recent_since,
    )


def _utc(moment: datetime) -> datetime:
    """Rows carry UTC without saying so."""
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
