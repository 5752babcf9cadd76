"""`python -m bench.training.cost KIND`: train 10,000 pairs and print time and memory as JSON.

Both sides of a pair have little in common, so that nothing stops early: as long as it can take.
`vectors` are of an encoder that gives nothing else; `tokens` are those of texts like the docstrings
of `bench.training`, as many and as frequent, of an encoder whose tokens can be weighed.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from time import perf_counter, process_time

import numpy as np

from mlops.serving.embedder import Vectors, normalised, strengths_of
from mlops.training.fitting import FitSettings, fit
from mlops.training.pairs import Pairs, PairTokens
from mlops.training.token_texts import TokenTexts

PAIRS, VALIDATION = 10_000, 1_000
DIMENSION = {"vectors": 384, "tokens": 256}
VOCABULARY = 12_000
QUERY_TOKENS, DOCUMENT_TOKENS, SHARED_TOKENS = 10, 180, 3


def noisy(shared: Vectors, generator: np.random.Generator) -> Vectors:
    return normalised(shared + generator.standard_normal(shared.shape, dtype=np.float32))


def texts(generator: np.random.Generator) -> tuple[TokenTexts, TokenTexts]:
    """Questions, and the documents that answer them."""
    chances = 1 / (10 + np.arange(VOCABULARY))
    chances /= chances.sum()
    shared = generator.integers(0, VOCABULARY, (PAIRS + VALIDATION, SHARED_TOKENS))
    queries, documents = (
        TokenTexts.of(
            [
                strengths_of([*known, *generator.choice(VOCABULARY, length, p=chances)])
                for known in shared
            ],
            VOCABULARY,
        )
        for length in (QUERY_TOKENS, DOCUMENT_TOKENS)
    )
    return queries, documents


def pairs_of(kind: str, generator: np.random.Generator) -> Pairs:
    shape = (PAIRS + VALIDATION, DIMENSION[kind])
    tokens = None
    if kind == "tokens":
        table: Vectors = generator.standard_normal((VOCABULARY, shape[1]), dtype=np.float32)
        queries, documents = texts(generator)
        tokens = PairTokens(queries=queries, documents=documents, table=table)
        sides = tokens.vectors(np.ones(VOCABULARY, dtype=np.float32))
    else:
        shared = generator.standard_normal(shape, dtype=np.float32)
        sides = noisy(shared, generator), noisy(shared, generator)
    rows = np.arange(PAIRS + VALIDATION)
    return Pairs(
        queries=sides[0],
        documents=sides[1],
        positives=rows,
        training=rows[:PAIRS],
        validation=rows[PAIRS:],
        tokens=tokens,
    )


def peak_mib() -> float:
    """Of this program; `getrusage` would tell of the one that started it, were that larger."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    (peak,) = [line for line in lines if line.startswith("VmHWM:")]
    return int(peak.split()[1]) / 1024


def main(kind: str) -> None:
    pairs = pairs_of(kind, np.random.default_rng(0))
    started_s, started_cpu_s = perf_counter(), process_time()
    fitted = fit(pairs, seed=1, settings=FitSettings(patience_epochs=1_000))
    found = {
        "seconds": perf_counter() - started_s,
        "cpu_seconds": process_time() - started_cpu_s,
        "epochs": fitted.epochs,
        "peak_mib": peak_mib(),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
