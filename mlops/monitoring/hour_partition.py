"""One hour's folder: what each look at it left, each file written whole."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from mlops.monitoring.figures import HOUR_S
from mlops.serving.files import write_whole

FOLDER: Final = "monitoring"
"""Beside the partitions of retrainings."""

T = TypeVar("T")


class LookMissing(RuntimeError):
    """A step is asked for whose predecessor has not been done."""


class HourPartition:
    """`MLOPS_RETRAINING_DATA_PATH/monitoring/2026-01-31T0500Z`; written again by a back-fill."""

    def __init__(self, root: Path, hour: int) -> None:
        """`hour` is its first second (Unix time). Nothing is made on disk yet.

        Raises:
            ValueError: not a whole hour.
        """
        if hour % HOUR_S:
            raise ValueError(f"hour {hour} is not the first second of an hour")
        self.name = f"{datetime.fromtimestamp(hour, UTC):%Y-%m-%dT%H%MZ}"
        self.path = root / FOLDER / self.name

    def write(self, name: str, value: Any) -> None:
        """Replace what the step said before."""
        content = msgspec.json.format(msgspec.json.encode(value)) + b"\n"
        write_whole(self.path / f"{name}.json", content)

    def read(self, name: str, kind: type[T]) -> T:
        """Raises LookMissing where the step has not been done."""
        try:
            content = (self.path / f"{name}.json").read_bytes()
        except FileNotFoundError as error:
            raise LookMissing(f"{self.path}: {name!r} has not been done") from error
        return msgspec.json.decode(content, type=kind)
