"""One report of all benchmarks, and the tables of the documents, from `bench/out/*.json`.

    python -m bench.figures           # `make report`: into bench/report.json, report.md, documents
    python -m bench.figures --check   # whether the documents match bench/report.json

In a document, a table stands between `<!-- figures: NAME -->` and `<!-- /figures -->`, where NAME
is a benchmark, a benchmark and ` goals` for its figures that have one, one of `SELECTIONS`, or one
of `scaling.BLOCKS`, which are computed from figures.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench import scaling

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "bench" / "out"
REPORT = ROOT / "bench" / "report.json"
PAGE = ROOT / "bench" / "report.md"

COMMANDS = {
    "gateway": "make bench-gateway",
    "control": "make bench-control",
    "recorder": "make bench-recorder",
    "store": "make bench-store FULL=1",
    "judge": "make bench-judge FULL=1",
    "rows": "make bench-rows",
    "drift": "make bench-drift",
    "agent": "make bench-agent",
    "mlops": "make bench-mlops",
    "training": "make bench-training",
    "chaos": "make chaos MINUTES=20 RATE=500 SEED=1",
    "soak": "make soak MINUTES=60",
    "mutants": "make mutants",
    "policies": "make policies",
}
SELECTIONS: dict[str, tuple[tuple[str, str], ...]] = {
    "in short": (
        ("gateway", "same work: CPU per request"),
        ("gateway", "split only: CPU per request"),
        ("gateway", "added p99 at half load"),
        ("gateway", "resident memory of a worker at 64 connections"),
        ("recorder", "stored, chat"),
        ("judge", "false rollback, A/A, alpha 5%, 2000 runs of 1 h"),
        ("judge", "errors 1 -> 5 %, alone, no margin, alpha 5%, 2000 runs"),
    ),
}
"""Tables of figures from several benchmarks."""

_BLOCK = re.compile(
    r"(?P<begin><!-- figures: (?P<name>[^>]*?) -->\n)(?P<table>.*?)(?P<end><!-- /figures -->)",
    re.DOTALL,
)
_KEPT = ("name", "value", "unit", "goal", "holds", "peers", "measured_on")

Figure = dict[str, Any]
"""`Measured` as JSON, and the day it was measured on."""
Report = dict[str, dict[str, Any]]
"""By benchmark: `machine`, `versions` and `figures`."""


def gathered(report: Report, results: dict[str, list[Figure]]) -> Report:
    """`report` with `results`, the contents of `bench/out`, in place of what they replace.

    A run of a part of a benchmark replaces its own figures alone, unless the machine is another.

    Raises:
        ValueError: there is no such benchmark.
    """
    new = dict(report)
    for name, rows in results.items():
        if name not in COMMANDS:
            raise ValueError(f"figures: expected one of {', '.join(COMMANDS)}, got {name!r}")
        if not rows:
            continue
        figures = [{key: row[key] for key in _KEPT if key in row} for row in rows]
        before = report.get(name)
        is_part = rows[-1].get("is_part", True)
        if is_part and before is not None and before["machine"] == rows[-1]["machine"]:
            measured = {figure["name"] for figure in figures}
            figures = _in_order(before["figures"], figures, measured)
        new[name] = {
            "machine": rows[-1]["machine"],
            "versions": rows[-1]["versions"],
            "figures": figures,
        }
    return {name: new[name] for name in sorted(new, key=_place)}


def _in_order(before: list[Figure], figures: list[Figure], measured: set[str]) -> list[Figure]:
    """Figures measured again at the place of the first of them, the others where they stood."""
    kept = [figure for figure in before if figure["name"] not in measured]
    at = next((i for i, figure in enumerate(before) if figure["name"] in measured), len(kept))
    at = sum(figure["name"] not in measured for figure in before[:at])
    return [*kept[:at], *figures, *kept[at:]]


def _place(name: str) -> int:
    names = list(COMMANDS)
    return names.index(name)


def table(figures: Sequence[Figure]) -> str:
    """In Markdown; a figure with several goals has one line."""
    lines = ["| figure | value | goal | beside it |", "|---|---|---|---|"]
    named: dict[str, list[Figure]] = {}
    for figure in figures:
        named.setdefault(figure["name"], []).append(figure)
    for name, rows in named.items():
        goals = "; ".join(_goal(row) for row in rows if row["goal"])
        peers = ", ".join(f"{peer} {shown(value)}" for peer, value in rows[0]["peers"].items())
        unit = {"us": "µs", "1/s": "per second"}.get(rows[0]["unit"], rows[0]["unit"])
        value = f"{shown(rows[0]['value'])} {unit}".strip()
        lines.append(f"| {name} | {value} | {goals} | {peers} |")
    return "\n".join(lines).replace(" |  |", " | |") + "\n"


def _goal(figure: Figure) -> str:
    return f"{figure['goal']} {'✓' if figure['holds'] else '(missed)'}"


def shown(value: float) -> str:
    """Three digits that count, four from a hundred on; counts whole."""
    if value == int(value) and abs(value) < 10**9:
        return f"{int(value):,}"
    if abs(value) >= 1000:
        return f"{float(f'{value:.4g}'):,.0f}"
    return f"{value:.4g}" if abs(value) >= 100 else f"{value:.3g}"


def page(report: Report) -> str:
    """`bench/report.md`."""
    parts = [
        "# Report\n",
        "Every figure of the benchmarks and long runs, as the command above its table measured "
        "it;\n`make report` writes this page. What the figures mean: "
        "[performance](../docs/performance.md),\n[judge](../docs/judge.md), "
        "[proof](../docs/proof.md).\n",
    ]
    missed = [
        f"{name}: {row['name']}, {shown(row['value'])} {row['unit']} ({row['goal']})"
        for name, found in report.items()
        for row in found["figures"]
        if row["goal"] and not row["holds"]
    ]
    parts.append("## Goals that are missed\n")
    parts.append("\n".join(f"- {line}" for line in missed) + "\n" if missed else "None.\n")
    for name, found in report.items():
        parts.append(f"## {name}\n\n```\n{COMMANDS[name]}\n```\n")
        parts.append(_conditions(found) + "\n")
        parts.append(table(found["figures"]))
    absent = [command for name, command in COMMANDS.items() if name not in report]
    if absent:
        parts.append("Not measured for this report: " + ", ".join(f"`{c}`" for c in absent) + ".\n")
    return "\n".join(parts)


def _conditions(found: dict[str, Any]) -> str:
    machine = found["machine"]
    days = sorted({row.get("measured_on", "") for row in found["figures"]} - {""})
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    when = f", measured on {' and '.join(days)}" if days else ""
    return (
        f"{machine['cores']} cores of {machine['cpu']}, {machine['memory_mib']:,} MiB, "
        f"{machine['system']}{when}. {versions}."
    )


def selected(report: Report, name: str) -> list[Figure]:
    """The figures of a block; none where nothing was measured."""
    if name in SELECTIONS:
        return [
            figure
            for benchmark, wanted in SELECTIONS[name]
            for figure in report.get(benchmark, {"figures": []})["figures"]
            if figure["name"] == wanted
        ]
    benchmark = name.removesuffix(" goals")
    if benchmark not in COMMANDS:
        raise ValueError(f"figures: expected one of {', '.join(COMMANDS)}, got {benchmark!r}")
    figures = report.get(benchmark, {"figures": []})["figures"]
    return [each for each in figures if each["goal"] or not name.endswith(" goals")]


def filled(text: str, report: Report) -> str:
    """A document with its tables as the report has them; where it has none, the command."""

    def block(found: re.Match[str]) -> str:
        if found["name"] in scaling.BLOCKS:
            made = scaling.block(found["name"], report)
        else:
            figures = selected(report, found["name"])
            made = table(figures) if figures else None
        command = COMMANDS.get(found["name"].removesuffix(" goals"), "make bench")
        new = made or f"Not measured for this report: `{command}`.\n"
        return f"{found['begin']}\n{new}\n{found['end']}"

    return _BLOCK.sub(block, text)


def documents() -> Iterator[Path]:
    """Those that have tables of figures."""
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        if "<!-- figures: " in path.read_text(encoding="utf-8"):
            yield path


def stale(report: Report) -> list[Path]:
    """What does not match the report."""
    found = [path for path in documents() if filled(_read(path), report) != _read(path)]
    return found if _read(PAGE) == page(report) else [PAGE, *found]


def load() -> Report:
    return json.loads(_read(REPORT)) if REPORT.exists() else {}  # type: ignore[no-any-return]


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def main() -> int:
    report = load()
    if "--check" in sys.argv:
        for path in stale(report):
            print(f"{path}: its figures are not those of {REPORT}; make report", file=sys.stderr)
        return len(stale(report))
    found = [path for path in OUT.glob("*.json") if path.stem in COMMANDS]
    report = gathered(report, {path.stem: json.loads(_read(path)) for path in found})
    REPORT.write_text(json.dumps(report, indent=1, sort_keys=False) + "\n", encoding="utf-8")
    PAGE.write_text(page(report), encoding="utf-8")
    for path in documents():
        path.write_text(filled(_read(path), report), encoding="utf-8")
        print(f"written: {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
