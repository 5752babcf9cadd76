"""`python -m bench.training.cost`: train 10,000 pairs and print time and memory as JSON.

Pairs that cannot be told apart well, so that nothing stops early: as long as it can take.
"""

from __future__ import annotations

import json
import resource
from time import perf_counter, process_time

import numpy as np

from mlops.serving.embedder import Vectors, normalised
from mlops.training.fitting import FitSettings, Pairs, fit

PAIRS, VALIDATION, DIMENSION = 10_000, 1_000, 384


def noisy(shared: Vectors, generator: np.random.Generator) -> Vectors:
    return normalised(shared + generator.standard_normal(shared.shape, dtype=np.float32))


def main() -> None:
    generator = np.random.default_rng(0)
    shared = generator.standard_normal((PAIRS + VALIDATION, DIMENSION), dtype=np.float32)
    rows = np.arange(PAIRS + VALIDATION)
    pairs = Pairs(
        queries=noisy(shared, generator),
        documents=noisy(shared, generator),
        positives=rows,
        training=rows[:PAIRS],
        validation=rows[PAIRS:],
    )
    started_s, started_cpu_s = perf_counter(), process_time()
    fitted = fit(pairs, seed=1, settings=FitSettings(patience_epochs=1_000))
    found = {
        "seconds": perf_counter() - started_s,
        "cpu_seconds": process_time() - started_cpu_s,
        "epochs": fitted.epochs,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
