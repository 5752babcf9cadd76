"""BM25 finds words; together with vectors it finds both."""

from __future__ import annotations

import numpy as np

from mlops.evaluation.lexical import Lexical, lexical_and_hybrid_ranks

PASSAGES = ["the cat sat on a mat", "dogs bark at night", "a lease protects the plan"]


def test_shared_words_rank_first_and_no_words_last() -> None:
    vectors = np.eye(3, dtype=np.float32)
    alone, together = lexical_and_hybrid_ranks(
        Lexical(PASSAGES),
        ["who barks at dogs", "zzz"],
        np.stack([vectors[1], vectors[2]]),
        vectors,
        np.array([1, 2]),
    )
    assert alone.tolist() == [1, 3]  # words that nobody has tell nothing apart
    assert together.tolist() == [1, 1]
