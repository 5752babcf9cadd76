"""`make mutants`: change the pure modules one place at a time; do their unit tests notice?

`MUTANTS=60 SEED=1 MINUTES=45 ONLY=gateway.pool,agent.stepper make mutants`. Writes the scores to
`bench/out/mutants.json` and what survived to `var/mutants/survivors.diff`. A survivor that changes
nothing anyone could notice is named, with the reason, in `bench/mutants/explained.yaml`.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from time import monotonic

# What the tests import of others, once for all children. Nothing of ours: that is what changes.
os.environ["GATEWAY_PURE_PYTHON"] = "1"  # what is compiled has no source to change
os.environ["OPENBLAS_NUM_THREADS"] = "1"  # no threads before a fork

import h11  # noqa: F401
import httptools  # noqa: F401
import msgspec  # noqa: F401
import numpy  # noqa: F401
import pytest_asyncio  # noqa: F401
import scipy.optimize
import scipy.special
import scipy.stats  # noqa: F401
import yaml

from bench.mutants import running
from bench.mutants.modules import MODULES
from bench.mutants.mutations import count_places, sample
from bench.report import Measured, write

SURVIVORS = Path("var/mutants/survivors.diff")
EXPLAINED = Path(__file__).with_name("explained.yaml")
GOAL = 90.0
"""Percent of the mutants that are not explained which the tests must notice."""


@dataclass
class Score:
    """Of one module."""

    places: int
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def percent(self) -> float:
        noticed = self.counts[running.KILLED] + self.counts[running.TIMED_OUT]
        judged = noticed + self.counts[running.SURVIVED]
        return 100 * noticed / judged if judged else 100.0


def main() -> int:
    most = int(os.environ.get("MUTANTS", "60"))
    seed = int(os.environ.get("SEED", "1"))
    ends_s = monotonic() + 60 * float(os.environ.get("MINUTES", "45"))
    only = os.environ.get("ONLY", "")
    chosen = only.split(",") if only else list(MODULES)
    explained = yaml.safe_load(EXPLAINED.read_text("utf-8"))
    scores: dict[str, Score] = {}
    SURVIVORS.parent.mkdir(parents=True, exist_ok=True)
    SURVIVORS.write_bytes(b"")
    for module in chosen:
        if monotonic() > ends_s:
            print(f"{module}: no time left", file=sys.stderr)
            continue
        scores[module] = _score(module, most, seed, explained.get(module, {}))
        rows = [_row(module, score) for module, score in scores.items()]  # so far, for the patient
        versions = {"cosmic-ray": version("cosmic-ray"), "seed": str(seed)}
        write("mutants", rows, versions, is_part=scores.keys() != MODULES.keys())
    return 0


def _score(module: str, most: int, seed: int, explained: dict[str, str]) -> Score:
    source = running.path_of(module).read_text("utf-8")
    score = Score(count_places(source))
    tests = MODULES[module]
    cpu_s = running.limit_s(module, tests)
    mutants = sample(module, source, most, seed)
    jobs = int(os.environ.get("JOBS", "1"))
    for mutant, outcome in running.outcomes(mutants, tests, cpu_s, jobs):
        is_explained = outcome == running.SURVIVED and mutant.changed in explained
        score.counts["explained" if is_explained else outcome] += 1
        if outcome == running.SURVIVED and not is_explained:
            with SURVIVORS.open("a", encoding="utf-8") as file:
                file.write(f"{mutant.diff}\n\n")
    print(f"{module}: {score.percent:.0f} % of {dict(score.counts)}", file=sys.stderr)
    return score


def _row(module: str, score: Score) -> Measured:
    names = (running.KILLED, running.TIMED_OUT, "explained", running.SURVIVED)
    return Measured(
        name=f"{module}: mutants noticed",
        value=score.percent,
        unit="%",
        goal=f">= {GOAL:g}",
        holds=score.percent >= GOAL,
        peers={"places": score.places, **{name: score.counts[name] for name in names}},
    )


if __name__ == "__main__":
    sys.exit(main())
