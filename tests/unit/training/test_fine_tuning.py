"""The fine-tuning trainer's side of its library. torch does not run here: the library is a stand-in
with the calls that are made of it, and an encoder that gets better with each epoch."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, Self

import numpy as np
import pytest

from mlops.training import fine_tuning
from mlops.training.documents import Documents
from mlops.training.fine_tuning import SentenceTransformersTrainer, training_columns
from mlops.training.labelling import Pair, Split
from mlops.training.plan import TrainerKind
from mlops.training.trainers import Material, MissingExtra, trainer_of

DIMENSION = 12


class Encoder:
    """Text `qN` and `dN` are direction N, hidden in noise that shrinks as it is trained."""

    def __init__(self, path: str) -> None:
        kept = Path(path) / "noise"
        self.noise = float(kept.read_text()) if kept.exists() else 2.0

    def encode(self, texts: Sequence[str], **_: Any) -> np.ndarray:
        rows = []
        for text in texts:
            generator = np.random.default_rng([ord(letter) for letter in text])
            row = self.noise * generator.standard_normal(DIMENSION)
            row[int(text[1:])] += 1
            rows.append(row)
        return np.array(rows)

    def save(self, path: str) -> None:
        Path(path).mkdir(parents=True, exist_ok=True)
        (Path(path) / "noise").write_text(str(self.noise))


class LibraryTrainer:
    """Trains in place, as the library's does."""

    noises: tuple[float, ...] = (0.5, 0.05, 3.0)
    seen: list[dict[str, list[str]]]

    def __init__(self, *, model: Encoder, train_dataset: Any, args: Any, loss: Any) -> None:
        assert (args.report_to, args.save_strategy) == ("none", "no")
        assert loss.model is model
        self._model = model
        self._epoch = args.seed - 7
        type(self).seen.append(train_dataset)

    def train(self) -> None:
        self._model.noise = self.noises[self._epoch - 1]


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Any:
    LibraryTrainer.seen = []
    made: Any = ModuleType("sentence_transformers")
    made.SentenceTransformer = Encoder
    made.SentenceTransformerTrainingArguments = SimpleNamespace
    made.SentenceTransformerTrainer = LibraryTrainer
    losses: Any = ModuleType("sentence_transformers.losses")
    losses.MultipleNegativesRankingLoss = lambda model: SimpleNamespace(model=model)
    datasets: Any = ModuleType("datasets")

    class Dataset(dict[str, list[str]]):
        @classmethod
        def from_dict(cls, columns: dict[str, list[str]]) -> Self:
            return cls(columns)

    datasets.Dataset = Dataset
    for module in (made, losses, datasets):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return made


def pair(number: int, split: Split) -> Pair:
    return Pair(
        query_key=f"k{number}",
        query_text=f"q{number}",
        document_id=f"id{number}",
        refused_ids=("gone", "id3") if number == 0 else (),
        split=split,
        times_asked=1,
        first_asked_at=datetime(2026, 1, 1, tzinfo=UTC),
        request_id="r",
        user_id=None,
    )


@pytest.fixture
def material(tmp_path: Path) -> Material:
    splits = [Split.TRAINING] * 6 + [Split.VALIDATION] * 6
    return Material(
        pairs=[pair(number, split) for number, split in enumerate(splits)],
        documents=Documents(
            digest="d",
            ids=[f"id{n}" for n in range(12)],
            passages=[f"d{n}" for n in range(12)],
            domains=[""] * 12,
        ),
        folder=tmp_path,
    )


@pytest.mark.usefixtures("library")
def test_the_best_epoch_is_kept_and_the_index_is_made_with_it(
    material: Material, tmp_path: Path
) -> None:
    out = tmp_path / "model"
    made = SentenceTransformersTrainer.installed().train(material, out, seed=7)
    assert (made.best_epoch, made.epochs, made.adapter) == (2, 3, None)
    assert made.validation_mrr > made.frozen_validation_mrr
    assert made.index.shape == (12, DIMENSION)
    kept = fine_tuning.FineTunedEncoder.load(out / fine_tuning.FOLDER, made.encoder, DIMENSION)
    assert np.allclose(kept.embed(material.documents.passages), made.index)


@pytest.mark.usefixtures("library")
def test_the_library_gets_training_pairs_alone(material: Material, tmp_path: Path) -> None:
    SentenceTransformersTrainer.installed().train(material, tmp_path / "model", seed=7)
    assert [one["anchor"] for one in LibraryTrainer.seen] == [[f"q{n}" for n in range(6)]] * 3


def test_what_was_refused_is_the_hard_negative(material: Material) -> None:
    columns = training_columns(material)
    assert columns["positive"] == [f"d{n}" for n in range(6)]
    assert columns["negative"] == ["d3", "d2", "d3", "d4", "d5", "d0"]


def test_without_the_library_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(MissingExtra, match="extra `train`"):
        trainer_of(TrainerKind.SENTENCE_TRANSFORMERS)
