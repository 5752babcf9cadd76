from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mlops.serving.index import Index


@given(seed=st.integers(0, 1_000), rows=st.integers(1, 60), count=st.integers(1, 70))
def test_the_nearest_are_those_of_a_full_sort(seed: int, rows: int, count: int) -> None:
    generator = np.random.default_rng(seed)
    vectors = generator.standard_normal((rows, 8)).astype(np.float32)
    query = generator.standard_normal(8).astype(np.float32)
    similarities = vectors @ query
    expected = sorted(range(rows), key=lambda row: (-similarities[row], row))[:count]
    found = Index(vectors).nearest(query, count)
    assert [row for row, _ in found] == expected
    assert [score for _, score in found] == [float(similarities[row]) for row in expected]


def test_equals_come_by_position() -> None:
    index = Index(np.ones((4, 2), dtype=np.float32))
    found = index.nearest(np.ones(2, dtype=np.float32), 4)
    assert len(index) == 4
    assert [row for row, _ in found] == [0, 1, 2, 3]
