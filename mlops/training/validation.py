"""Can these rows be trained on? The checks of a retraining, in their order. Pure."""

from __future__ import annotations

from collections import Counter
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from mlops.training.labelling import Dropped, Labelled, Split
from mlops.training.outcomes import Step, Stopped, StopReason
from mlops.training.plan import Plan

MAX_NOT_FINITE: Final = 0.01
"""Part of the rows that may hold a NaN and are left out; with more, what writes them is broken."""

MAX_UNKNOWN_DOCUMENTS: Final = 0.05
"""Part of the retrieved documents that may be missing among ours: some go between two crawls.
With more, these are not the documents that were searched."""

MIN_PER_SPLIT: Final = 5
"""Queries to stop by, and to compare by; fewer decide nothing, whatever `min_samples` says."""


def rows_problem(rows: pa.Table, known: frozenset[str]) -> Stopped | None:
    """What is wrong with the rows before anything is learned from them."""
    return _mixed_embeddings(rows) or _unknown_documents(rows, known) or _not_finite(rows)


def labels_problem(labelled: Labelled, plan: Plan) -> Stopped | None:
    """What is wrong with what the scores say."""
    return (
        _too_few_judged(labelled, plan)
        or _one_class(labelled)
        or _too_few_samples(labelled, plan)
        or _small_split(labelled)
    )


def _mixed_embeddings(rows: pa.Table) -> Stopped | None:
    lengths = pc.value_counts(rows.column("embedding_length"))
    counted = {one["values"]: one["counts"] for one in lengths.to_pylist() if one["values"]}
    if len(counted) <= 1:
        return None
    parts = ", ".join(f"{count:,} of {length}" for length, count in sorted(counted.items()))
    return _stop(
        StopReason.SCHEMA_DRIFT,
        f"embeddings of different lengths lie in one window ({parts} numbers); expected one: "
        "begin the window after the change",
    )


def _unknown_documents(rows: pa.Table, known: frozenset[str]) -> Stopped | None:
    retrieved = pc.list_flatten(rows.column("retrieved_ids"))
    if not len(retrieved):
        return None
    unknown = (
        len(retrieved) - pc.sum(pc.is_in(retrieved, value_set=pa.array(sorted(known)))).as_py()
    )
    if unknown <= MAX_UNKNOWN_DOCUMENTS * len(retrieved):
        return None
    return _stop(
        StopReason.SCHEMA_DRIFT,
        f"{unknown:,} of {len(retrieved):,} retrieved documents are not among the "
        f"{len(known):,} given, at most {MAX_UNKNOWN_DOCUMENTS:.0%} may be missing: "
        "these are not the documents that were searched",
    )


def _not_finite(rows: pa.Table) -> Stopped | None:
    broken = rows.num_rows - (pc.sum(rows.column("is_finite")).as_py() or 0)
    if broken <= MAX_NOT_FINITE * rows.num_rows:
        return None
    return _stop(
        StopReason.NOT_FINITE,
        f"{broken:,} of {rows.num_rows:,} rows hold a NaN or an infinity in embedding or scores, "
        f"at most {MAX_NOT_FINITE:.0%} may",
    )


def _too_few_judged(labelled: Labelled, plan: Plan) -> Stopped | None:
    judged = labelled.good + labelled.bad
    if judged >= plan.min_samples:
        return None
    return _stop(
        StopReason.TOO_FEW_SAMPLES,
        f"{judged:,} judged answers, {plan.min_samples:,} valid samples are needed"
        f"{_left_out(labelled)}",
    )


def _one_class(labelled: Labelled) -> Stopped | None:
    if labelled.good and labelled.bad and len({one.document_id for one in labelled.pairs}) > 1:
        return None
    judged = labelled.good + labelled.bad
    if not labelled.bad:
        found = f"all {judged:,} judged answers were right"
    elif not labelled.good:
        found = f"none of {judged:,} judged answers was right"
    else:
        found = f"one document was the answer to all {len(labelled.pairs):,} queries"
    return _stop(StopReason.ONE_CLASS, f"{found}: the scores tell nothing apart")


def _too_few_samples(labelled: Labelled, plan: Plan) -> Stopped | None:
    if len(labelled.pairs) >= plan.min_samples:
        return None
    return _stop(
        StopReason.TOO_FEW_SAMPLES,
        f"{len(labelled.pairs):,} different queries with a right document, "
        f"{plan.min_samples:,} are needed{_left_out(labelled)}",
    )


def _small_split(labelled: Labelled) -> Stopped | None:
    sizes = Counter(one.split for one in labelled.pairs)
    small = [f"{sizes[split]} for {split}" for split in Split if sizes[split] < MIN_PER_SPLIT]
    if not small:
        return None
    return _stop(
        StopReason.TOO_FEW_SAMPLES,
        f"of {len(labelled.pairs):,} queries only {', '.join(small)}; "
        f"expected at least {MIN_PER_SPLIT} each",
    )


def _left_out(labelled: Labelled) -> str:
    others = {
        name: count
        for name, count in sorted(labelled.dropped.items())
        if name != Dropped.ANSWER_NOT_RIGHT
    }
    parts = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in others.items())
    return f"; left out: {parts}" if parts else ""


def _stop(reason: StopReason, sentence: str) -> Stopped:
    return Stopped(step=Step.VALIDATE, reason=reason, sentence=sentence)
