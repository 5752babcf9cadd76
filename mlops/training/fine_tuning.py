"""Fine-tune a sentence-transformers encoder. Needs torch: `pip install rag-mlops[train]`."""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Self

import numpy as np

from mlops.serving.embedder import Vectors, normalised
from mlops.training.labelling import Split
from mlops.training.pairs import ranks_of
from mlops.training.progress import SILENT, Progress
from mlops.training.token_texts import Positions
from mlops.training.trainers import Material, MissingExtra, Training

BASE_MODEL: Final = "sentence-transformers/all-MiniLM-L6-v2"
FOLDER: Final = "encoder"
"""Of the trained encoder, in the version's folder."""
EPOCHS: Final = 3
BATCH_SIZE: Final = 64
LEARNING_RATE: Final = 2e-5
ENCODE_BATCH: Final = 128


class SentenceTransformersTrainer:
    """In-batch negatives and the refused documents, by the library's own trainer and loss
    (MultipleNegativesRankingLoss: Henderson et al. 2017, arXiv:1705.00652)."""

    def __init__(self, library: Any, base: str = BASE_MODEL) -> None:
        """`library` is the package sentence_transformers; `base` a name or a folder."""
        self._library = library
        self._base = base

    @classmethod
    def installed(cls) -> Self:
        """Raises MissingExtra where the library is not there."""
        return cls(_library())

    def train(
        self, material: Material, out: Path, *, seed: int, progress: Progress = SILENT
    ) -> Training:
        """Write the epoch that ranks validation queries best, which may be the base itself."""
        model = self._library.SentenceTransformer(self._base)
        validation = material.positions(Split.VALIDATION)
        frozen_mrr = self._mrr(model, material, validation)
        best_mrr, best_epoch = frozen_mrr, 0
        model.save(str(out / FOLDER))
        for epoch in range(1, EPOCHS + 1):
            self._epoch(model, material, out / "work", seed + epoch)
            mrr = self._mrr(model, material, validation)
            progress("epochs", epoch, EPOCHS)
            if mrr > best_mrr:
                best_mrr, best_epoch = mrr, epoch
                model.save(str(out / FOLDER))
        best = self._library.SentenceTransformer(str(out / FOLDER))
        index = _encode(best, material.documents.passages)
        return Training(
            encoder=f"{self._base}+fine-tuned",
            dimension=int(index.shape[1]),
            adapter=None,
            index=index,
            epochs=EPOCHS,
            best_epoch=best_epoch,
            validation_mrr=best_mrr,
            frozen_validation_mrr=frozen_mrr,
            settings={
                "batch_size": BATCH_SIZE,
                "learning_rate": LEARNING_RATE,
                "base_model": self._base,
            },
        )

    def _epoch(self, model: Any, material: Material, work: Path, seed: int) -> None:
        datasets = importlib.import_module("datasets")
        losses = importlib.import_module("sentence_transformers.losses")
        arguments = self._library.SentenceTransformerTrainingArguments(
            output_dir=str(work),
            num_train_epochs=1,
            per_device_train_batch_size=BATCH_SIZE,
            learning_rate=LEARNING_RATE,
            seed=seed,
            data_seed=seed,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        self._library.SentenceTransformerTrainer(
            model=model,
            args=arguments,
            train_dataset=datasets.Dataset.from_dict(training_columns(material)),
            loss=losses.MultipleNegativesRankingLoss(model),
        ).train()

    def _mrr(self, model: Any, material: Material, rows: Positions) -> float:
        position = {name: row for row, name in enumerate(material.documents.ids)}
        chosen = [material.pairs[row] for row in rows]
        positives = np.array([position[one.document_id] for one in chosen], dtype=np.intp)
        index = _encode(model, material.documents.passages)
        queries = _encode(model, [one.query_text for one in chosen])
        found = float((1 / ranks_of(queries, index, positives)).mean())
        assert math.isfinite(found), "ranks begin at 1"
        return found


class FineTunedEncoder:
    """An encoder that was trained here, read from its folder."""

    def __init__(self, model: Any, name: str, dimension: int) -> None:
        self._model = model
        self.name = name
        self.dimension = dimension

    @classmethod
    def load(cls, folder: Path, name: str, dimension: int) -> Self:
        """Raises MissingExtra where the library is not there."""
        return cls(_library().SentenceTransformer(str(folder)), name, dimension)

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Shape (texts, `dimension`), single precision; each row's length is 1."""
        return _encode(self._model, list(texts))


def training_columns(material: Material) -> dict[str, list[str]]:
    """Columns of the library's data set: the question, its document, and a wrong one.

    A wrong one is what was shown first and refused; where nothing was, the document of the next
    pair, which in-batch negatives contain anyway.
    """
    passages = dict(zip(material.documents.ids, material.documents.passages, strict=True))
    chosen = [material.pairs[row] for row in material.positions(Split.TRAINING)]
    following = [*chosen[1:], *chosen[:1]]
    negatives = [
        next((name for name in one.refused_ids if name in passages), after.document_id)
        for one, after in zip(chosen, following, strict=True)
    ]
    return {
        "anchor": [one.query_text for one in chosen],
        "positive": [passages[one.document_id] for one in chosen],
        "negative": [passages[name] for name in negatives],
    }


def _library() -> Any:
    try:
        return importlib.import_module("sentence_transformers")
    except ImportError as error:
        raise MissingExtra(
            "fine-tuning needs sentence-transformers and torch, which the extra `train` "
            f"brings (requirements/train.lock): {error}"
        ) from error


def _encode(model: Any, texts: list[str]) -> Vectors:
    vectors = model.encode(
        texts, batch_size=ENCODE_BATCH, convert_to_numpy=True, show_progress_bar=False
    )
    return normalised(np.asarray(vectors, dtype=np.float32))
