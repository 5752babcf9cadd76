"""What every benchmark writes: a table for people, `bench/out/NAME.json` for `bench.figures`."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

OUT = Path(__file__).resolve().parent / "out"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One figure. `goal` is a sentence with the number in it; empty where there is none."""

    name: str
    value: float
    unit: str
    goal: str = ""
    holds: bool = True
    peers: Mapping[str, float] = field(default_factory=dict)
    """The same figure of others, measured in the same run."""


def none_of(name: str, count: int, causes: Mapping[Any, int] | None = None) -> Measured:
    """Something that must not have happened; beside it how often, by cause."""
    told = {str(cause): float(times) for cause, times in (causes or {}).items()}
    return Measured(name=name, value=count, unit="", goal="must be 0", holds=count == 0, peers=told)


def machine() -> dict[str, str | int]:
    """What the figures were measured on."""
    model = "unknown"
    memory_kib = 0
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            model = line.partition(": ")[2]
            break
    for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("MemTotal"):
            memory_kib = int(line.split()[1])
    return {
        "cpu": model,
        "cores": len(list(Path("/sys/devices/system/cpu").glob("cpu[0-9]*"))),
        "memory_mib": memory_kib // 1024,
        "system": platform.platform(),
    }


def write(
    name: str,
    rows: Sequence[Measured],
    versions: Mapping[str, str],
    *,
    is_part: bool | None = None,
) -> Path:
    """Write `bench/out/NAME.json`, print the table, and return the path.

    The figures of a part replace their own in the report, those of a whole run all that were there.
    Unless said otherwise, a run with `ONLY` in its environment is a part.
    """
    extra = {
        "is_part": bool(os.environ.get("ONLY")) if is_part is None else is_part,
        "machine": machine(),
        "versions": {"python": platform.python_version(), **versions},
        "measured_on": datetime.now(UTC).date().isoformat(),
    }
    OUT.mkdir(parents=True, exist_ok=True)
    path = OUT / f"{name}.json"
    document = [{**asdict(row), "peers": dict(row.peers), **extra} for row in rows]
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    Console(file=sys.stdout, width=110).print(_table(name, rows))
    print(f"written to {path}")
    return path


def _table(name: str, rows: Sequence[Measured]) -> Table:
    table = Table(title=name)
    for column in ("figure", "value", "unit", "goal", "holds", "peers"):
        table.add_column(column, justify="right" if column == "value" else "left")
    for row in rows:
        peers = ", ".join(f"{peer} {value:.4g}" for peer, value in row.peers.items())
        holds = ("yes" if row.holds else "NO") if row.goal else ""
        table.add_row(row.name, f"{row.value:.4g}", row.unit, row.goal, holds, peers)
    return table
