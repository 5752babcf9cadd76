"""Batches that were embedded are kept; what is erased is gone from them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from mlops.feature_store.parquet_rows import without
from mlops.serving.embedder import Vectors
from mlops.training import embedding
from mlops.training.embedding import embedded


class Counting:
    """Embeds a text as its length, and fails after so many texts."""

    name = "lengths/v1"
    dimension = 2

    def __init__(self, fails_after: int = 10**9) -> None:
        self.texts: list[str] = []
        self._fails_after = fails_after

    def embed(self, texts: Sequence[str]) -> Vectors:
        if len(self.texts) >= self._fails_after:
            raise OSError("killed")
        self.texts += texts
        return np.array([[len(text), 1] for text in texts], dtype=np.float32)


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "BATCH_TEXTS", 4)


TEXTS = {f"k{n}": "x" * n for n in range(10)}


def test_a_broken_run_goes_on_where_it_was(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="killed"):
        embedded(TEXTS, Counting(fails_after=8), tmp_path / "queries")
    told: list[tuple[str, int, int]] = []
    encoder = Counting()
    vectors = embedded(
        TEXTS, encoder, tmp_path / "queries", progress=lambda *step: told.append(step)
    )
    assert encoder.texts == ["x" * 8, "x" * 9]
    assert vectors[:, 0].tolist() == list(range(10))
    assert told == [("queries", 8, 10), ("queries", 10, 10)]


def test_an_erased_person_is_gone_from_the_batches_and_nobody_else(tmp_path: Path) -> None:
    people = [f"u{n % 2}" for n in range(10)]
    embedded(TEXTS, Counting(), tmp_path / "queries", named={"user_id": people})
    files = sorted(tmp_path.rglob("*.parquet"))
    for path in files:
        changed = without(path.read_bytes(), {"user_id": {"u1"}})
        assert changed is not None
        path.write_bytes(changed[0])
    rest = {key: text for key, text in TEXTS.items() if len(text) % 2 == 0}
    encoder = Counting()
    assert embedded(rest, encoder, tmp_path / "queries")[:, 0].tolist() == [0, 2, 4, 6, 8]
    assert encoder.texts == []
