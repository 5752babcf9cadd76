"""Read a log of rows: CSV, JSON lines or Parquet, told by the file's ending."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from agent.row_columns import ARMS, RowColumns
from mlops.contracts.evidence import KEY_GROUPS

Floats = NDArray[np.float64]

LATEST_EPOCH_S = 1e11
"""The year 5138: a number beyond it counts milliseconds."""


class RowsError(click.ClickException):
    """The file cannot be used; names the column and the row."""

    exit_code = 2


def read_table(path: Path) -> Any:
    """The file as an Arrow table.

    Raises:
        RowsError: it cannot be read.
    """
    try:
        import pyarrow  # noqa: PLC0415  an extra: only these two commands need it
        import pyarrow.csv  # noqa: PLC0415
        import pyarrow.json  # noqa: PLC0415
        import pyarrow.parquet  # noqa: PLC0415
    except ImportError as error:
        raise RowsError("reading rows needs pyarrow: install rag-mlops[mlops]") from error
    readers: dict[str, Callable[[], Any]] = {
        ".csv": lambda: pyarrow.csv.read_csv(
            path,
            convert_options=pyarrow.csv.ConvertOptions(
                column_types={
                    name: pyarrow.string() for name in ("ts", "arm", "session", "endpoint")
                },
                strings_can_be_null=True,
            ),
        ),
        ".jsonl": lambda: pyarrow.json.read_json(path),
        ".ndjson": lambda: pyarrow.json.read_json(path),
        ".parquet": lambda: pyarrow.parquet.read_table(path),
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise RowsError(f"{path}: expected .csv, .jsonl or .parquet, got {path.suffix or 'none'}")
    try:
        table = reader()
    except (pyarrow.ArrowException, OSError) as error:
        raise RowsError(f"{path}: cannot be read: {error}") from error
    if not table.num_rows:
        raise RowsError(f"{path}: has no rows")
    return table


def row_columns(table: Any, path: Path, tell: Callable[[str], None]) -> RowColumns:
    """The columns the judge knows, sorted by time; `tell` says what was left out.

    Raises:
        RowsError: a column is missing, or a value is not understood.
    """
    for name in ("ts", "arm", "status", "latency_ms"):
        if name not in table.column_names:
            found = ", ".join(table.column_names)
            raise RowsError(f"{path}: no column {name!r}; expected ts, arm, status and latency_ms, "
                            f"got {found}")  # fmt: skip
    ts = times_s(table, "ts", path)
    arm, status = _arms(table, path), _numbers(table, "status", path)
    usable = ~np.isnan(ts) & (arm >= 0) & ~np.isnan(status)
    if not usable.all():
        tell(f"{int((~usable).sum())} rows without ts, arm or status are left out")
    if not usable.any():
        raise RowsError(f"{path}: no row has ts, arm and status")
    order = np.flatnonzero(usable)[np.argsort(ts[usable], kind="stable")]

    def optional(name: str, low: float = 0.0, high: float = np.inf) -> Floats | None:
        if name not in table.column_names:
            return None
        values = _numbers(table, name, path)
        _check_range(values, name, path, low, high)
        return np.asarray(values[order])

    latency = optional("latency_ms")
    assert latency is not None, "it is required"
    return RowColumns(
        ts=ts[order],
        arm=arm[order],
        status=status[order].astype(np.int64),
        latency_ms=latency,
        ttft_ms=optional("ttft_ms"),
        score=optional("score", 0.0, 1.0),
        weight=optional("weight", 0.0, 100.0),
        key_group=_key_groups(table)[order],
        endpoint=_texts(table, "endpoint", order),
    )


def times_s(table: Any, name: str, path: Path) -> Floats:
    """Unix seconds of a column of numbers or ISO 8601 texts; NaN where it is missing."""
    import pandas as pd  # noqa: PLC0415  comes with pyarrow's extra

    column = table.column(name).to_pandas()
    if pd.api.types.is_datetime64_any_dtype(column):
        stamps = pd.to_datetime(column, utc=True)
    elif pd.api.types.is_numeric_dtype(column):
        return _epoch(column.to_numpy(np.float64, na_value=np.nan), name, path)
    else:
        numbers = pd.to_numeric(column, errors="coerce")
        if numbers.notna().sum() == column.notna().sum():
            return _epoch(numbers.to_numpy(np.float64), name, path)
        try:
            stamps = pd.to_datetime(column, utc=True, format="ISO8601")
        except ValueError as error:
            raise RowsError(
                f"{path}: {name}: expected epoch seconds or ISO 8601: {error}"
            ) from error
    known = stamps.notna().to_numpy()
    seconds = np.full(len(stamps), np.nan)
    stamped = stamps[known].to_numpy("datetime64[us]").astype(np.int64)
    seconds[known] = stamped / 1e6
    return seconds


def _epoch(seconds: Floats, name: str, path: Path) -> Floats:
    if (np.nan_to_num(np.abs(seconds)) > LATEST_EPOCH_S).any():
        worst = float(np.nanmax(np.abs(seconds)))
        raise RowsError(f"{path}: {name}: expected epoch seconds, got {worst:.0f} (milliseconds?)")
    return seconds


def _arms(table: Any, path: Path) -> NDArray[np.int64]:
    encoded = table.column("arm").combine_chunks().dictionary_encode()
    names: list[str | None] = list(encoded.dictionary.to_pylist())
    known: dict[str | None, int] = {name: index for index, name in enumerate(ARMS)}
    for name in names:
        if name is not None and name not in known:
            raise RowsError(f"{path}: arm: expected {', '.join(ARMS)}, got {name!r}")
    of = np.array([known.get(name, -1) for name in names] + [-1])
    indices = encoded.indices.to_pandas().fillna(-1).to_numpy().astype(np.int64)
    return np.asarray(of[indices], np.int64)


def _texts(table: Any, name: str, order: NDArray[np.int64]) -> NDArray[np.object_] | None:
    """A column of few different texts; empty where it is missing."""
    if name not in table.column_names:
        return None
    encoded = table.column(name).combine_chunks().dictionary_encode()
    texts = np.array([*map(str, encoded.dictionary.to_pylist()), ""], object)
    indices = encoded.indices.to_pandas().fillna(-1).to_numpy().astype(np.int64)
    return np.asarray(texts[indices[order]], object)


def _numbers(table: Any, name: str, path: Path) -> Floats:
    import pandas as pd  # noqa: PLC0415

    column = table.column(name).to_pandas()
    numbers = pd.to_numeric(column, errors="coerce")
    wrong = numbers.isna() & column.notna()
    if wrong.any():
        at = int(wrong.to_numpy().argmax())
        raise RowsError(
            f"{path}: {name}: expected a number, got {column.iloc[at]!r} (row {at + 1})"
        )
    return np.asarray(numbers.to_numpy(np.float64, na_value=np.nan))


def _check_range(values: Floats, name: str, path: Path, low: float, high: float) -> None:
    outside = (values < low) | (values > high) | np.isinf(values)
    if outside.any():
        at = int(outside.argmax())
        expected = f"{low:g} to {high:g}" if np.isfinite(high) else f"at least {low:g}"
        raise RowsError(f"{path}: {name}: expected {expected}, got {values[at]:g} (row {at + 1})")


def _key_groups(table: Any) -> NDArray[np.int64]:
    """By session; a row without one is a key of its own."""
    import pandas as pd  # noqa: PLC0415

    alone = pd.util.hash_array(np.arange(table.num_rows, dtype=np.int64)) % KEY_GROUPS
    if "session" not in table.column_names:
        return alone.astype(np.int64)
    session = table.column("session").to_pandas()
    hashed = pd.util.hash_array(session.astype(str).to_numpy(object)) % KEY_GROUPS
    return np.where(session.notna().to_numpy(), hashed, alone).astype(np.int64)
