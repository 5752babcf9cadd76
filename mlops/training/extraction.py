"""The rows of a window, narrowed to what training needs. Pure.

Embeddings are checked here and not kept: those of the rows are in the space of the version that
served them, while training begins at the frozen encoder.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from mlops.training.plan import Plan

KEPT: Final = (
    "request_id",
    "user_id",
    "query_text",
    "version",
    "ended_at",
    "score",
    "retrieved_ids",
    "retrieved_scores",
)
"""Columns of `rows.parquet`, beside `embedding_length` and `is_finite`."""

_IS_TEXT = (pa.types.is_string, pa.types.is_large_string)
_EXPECTED: Final = {
    "request_id": "text",
    "user_id": "text",
    "query_text": "text",
    "version": "text",
    "ended_at": "time",
    "score": "number",
    "retrieved_ids": "list of text",
    "retrieved_scores": "list of number",
    "embedding": "list of number",
}


def schema_problem(table: pa.Table) -> str:
    """What is not as expected in the columns; empty: nothing."""
    found = {field.name: _kind(field.type) for field in table.schema}
    wrong = [
        f"{name} is {found.get(name, 'missing')}, expected {expected}"
        for name, expected in _EXPECTED.items()
        if found.get(name) != expected
    ]
    return "; ".join(wrong)


def narrowed(table: pa.Table) -> pa.Table:
    """`KEPT`, with what is to be known of the numbers of each row."""
    finite = pc.and_(
        _all_finite(table.column("embedding"), table.num_rows),
        pc.and_(
            _all_finite(table.column("retrieved_scores"), table.num_rows),
            pc.fill_null(pc.is_finite(table.column("score")), True),  # noqa: FBT003  pyarrow's own
        ),
    )
    return (
        table.select(list(KEPT))
        .append_column("embedding_length", pc.list_value_length(table.column("embedding")))
        .append_column("is_finite", finite)
    )


def rows_digest(table: pa.Table) -> str:
    """Of the rows' ids and scores, in their order."""
    hashed = blake2b(digest_size=16)
    for name in ("request_id", "score"):
        for value in table.column(name).to_pylist():
            hashed.update(f"{value}\x00".encode())
    return hashed.hexdigest()


def nothing_found(plan: Plan) -> str:
    """The sentence for an empty window."""
    window = plan.window
    where = f"of route {plan.route!r} " if plan.route else ""
    scored = f" with an evaluation {plan.evaluation!r}" if plan.evaluation else ""
    return (
        f"no answered query {where}from {window.since:%F %T} to {window.until:%F %T} UTC{scored} "
        f"that had arrived by {window.as_of:%F %T}"
    )


def _all_finite(lists: pa.ChunkedArray, rows: int) -> pa.Array:
    """For each list whether all of its numbers are finite; an empty one is."""
    values = pc.list_flatten(lists)
    bad_rows = pc.list_parent_indices(lists).filter(pc.invert(pc.is_finite(values)))
    return pc.invert(pc.is_in(pa.array(range(rows), pa.int64()), value_set=pc.unique(bad_rows)))


def _kind(given: pa.DataType) -> str:
    if any(is_text(given) for is_text in _IS_TEXT):
        return "text"
    if pa.types.is_floating(given):
        return "number"
    if pa.types.is_timestamp(given):
        return "time"
    if pa.types.is_list(given) or pa.types.is_large_list(given):
        return f"list of {_kind(given.value_type)}"
    return str(given)
