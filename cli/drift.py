"""`drift ROWS --column embedding`: have the queries of a log changed over time?"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from agent.judge.drift import EmbeddingDrift
from cli.options import FILE
from cli.output import print_entry, prints
from cli.rows import RowsError, read_table, times_s
from cli.shapes import DriftAlarm, DriftResult

BLOCK = 20
"""Queries at a time."""


@click.command()
@click.argument("rows", type=FILE)
@click.option("--column", required=True, help="Column with a vector in each row.")
@click.option(
    "--reference",
    type=click.IntRange(min=1),
    default=2000,
    show_default=True,
    help="First rows, from a time that was good.",
)
@prints(DriftAlarm, DriftResult, is_stream=True, only=("json", "yaml"))
def drift(rows: Path, column: str, reference: int, output: str) -> None:
    """Look for a change in ROWS (JSON lines, Parquet, CSV with JSON arrays), oldest first.

    Rows are sorted by `ts` where there is one. A JSON line for each alarm; the last one is the
    result. Without any change an alarm comes once in 40,000 queries at most.
    """
    table = read_table(rows)
    vectors, ts = _vectors(table, column, rows)
    try:
        detector = EmbeddingDrift(vectors[:reference])
    except ValueError as error:
        raise RowsError(f"{rows}: {column}: {error}") from error
    if len(vectors) <= reference:
        raise RowsError(f"{rows}: {len(vectors)} vectors; expected more than the reference")
    alarms = []
    for alarm in _alarms(detector, vectors, ts, reference):
        alarms.append(alarm)
        print_entry(output, alarm)
    result = DriftResult(
        result="drift" if alarms else "no drift",
        queries=len(vectors) - reference,
        alarms=len(alarms),
        first_alarm=alarms[0].query if alarms else None,
        distance=round(detector.distance, 6),
    )
    print_entry(output, result)


def _alarms(
    detector: EmbeddingDrift,
    vectors: NDArray[np.float64],
    ts: NDArray[np.float64] | None,
    first: int,
) -> Iterator[DriftAlarm]:
    for start in range(first, len(vectors), BLOCK):
        block = vectors[start : start + BLOCK]
        if detector.absorb(len(block), block.sum(axis=0)):
            last = start + len(block)
            yield DriftAlarm(
                t=None if ts is None else float(ts[last - 1]),
                query=last - first,
                verdict="drift",
                distance=round(detector.distance, 6),
            )


def _vectors(
    table: Any, column: str, path: Path
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    if column not in table.column_names:
        found = ", ".join(table.column_names)
        raise RowsError(f"{path}: no column {column!r}, got {found}")
    given = table.column(column).to_pylist()
    ts = times_s(table, "ts", path) if "ts" in table.column_names else None
    order = range(len(given)) if ts is None else np.argsort(ts, kind="stable").tolist()
    every = ((at, _vector(given[at], column, at, path)) for at in order)
    found_rows = [(at, vector) for at, vector in every if vector is not None]
    lengths = {len(vector) for _, vector in found_rows}
    if len(lengths) != 1:
        raise RowsError(
            f"{path}: {column}: expected vectors of one length (one embedding space), got lengths "
            f"{', '.join(str(one) for one in sorted(lengths)) or 'of nothing'}"
        )
    kept = None if ts is None else ts[[at for at, _ in found_rows]]
    return np.array([vector for _, vector in found_rows], np.float64), kept


def _vector(value: Any, column: str, at: int, path: Path) -> list[float] | None:
    """A list of numbers, or its JSON text; None where it is missing."""
    if value is None or value == "":
        return None
    try:
        vector = json.loads(value) if isinstance(value, str) else value
        numbers = [float(one) for one in vector]
    except (ValueError, TypeError) as error:
        raise RowsError(
            f"{path}: {column}: expected a list of numbers, got {value!r:.60} (row {at + 1})"
        ) from error
    if not np.isfinite(numbers).all():
        raise RowsError(f"{path}: {column}: a number is not finite (row {at + 1})")
    return numbers or None
