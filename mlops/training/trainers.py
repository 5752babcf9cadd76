"""The interface of a trainer, and the linear adapter behind it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import pyarrow as pa

from mlops.serving.adapter import Adapter, adapted_documents
from mlops.serving.embedder import Vectors
from mlops.serving.files import write_whole
from mlops.serving.model import ADAPTER
from mlops.training.documents import Documents
from mlops.training.embedding import embedded
from mlops.training.encoders import Encoder, ServedEncoder, TokenEncoder
from mlops.training.fitting import FitSettings, fit
from mlops.training.labelling import Pair, Split
from mlops.training.pairs import Pairs, PairTokens
from mlops.training.plan import TrainerKind
from mlops.training.progress import SILENT, Progress
from mlops.training.token_texts import Positions

MAX_VALIDATION: Final = 1_000
"""Queries that are ranked after every epoch; more cost time and decide the same."""


class MissingExtra(RuntimeError):
    """A trainer's libraries are not installed; says which extra brings them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """What a trainer gets: pairs without the held-out ones, the documents, and a place to work."""

    pairs: list[Pair]
    documents: Documents
    folder: Path
    """Of the partition: embeddings are kept below it."""

    def __post_init__(self) -> None:
        assert all(one.split is not Split.HELD_OUT for one in self.pairs), "no trainer sees those"

    def positions(self, split: Split) -> Positions:
        """Rows of `pairs` of one split."""
        found = [row for row, one in enumerate(self.pairs) if one.split is split]
        return np.array(found, dtype=np.intp)


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """What a trainer made. Its files lie in the folder that it was given."""

    encoder: str
    dimension: int
    adapter: str | None
    """Name of the adapter's file; None where the encoder itself was trained."""
    index: Vectors
    """Unit vectors of all documents in the new space."""
    epochs: int
    best_epoch: int
    validation_mrr: float
    frozen_validation_mrr: float
    settings: dict[str, str | int | float] = field(default_factory=dict)


class Trainer(Protocol):
    """Trains a model and builds the index with it."""

    def train(
        self, material: Material, out: Path, *, seed: int, progress: Progress = SILENT
    ) -> Training:
        """Write the model's files into `out`, which may hold those of a broken attempt."""


class LinearAdapterTrainer:
    """Two linear maps on a frozen encoder, and a weight for each token where it pools tokens.

    The same bytes for the same material and seed.
    """

    def __init__(self, encoder: Encoder, settings: FitSettings | None = None) -> None:
        self._encoder = encoder
        self._settings = settings or FitSettings()

    def train(
        self, material: Material, out: Path, *, seed: int, progress: Progress = SILENT
    ) -> Training:
        """Embed what no earlier attempt has embedded, fit, and write the adapter."""
        documents = embed_documents(material.documents, self._encoder, material.folder, progress)
        queries = embed_queries(material.pairs, self._encoder, material.folder, progress)
        pairs = _pairs(material, queries, documents)
        if isinstance(self._encoder, TokenEncoder):
            pairs = replace(pairs, tokens=_tokens(material, self._encoder))
        fitted = fit(
            pairs,
            seed=seed,
            settings=self._settings,
            told=lambda done, most: progress("epochs", done, most),
        )
        write_whole(out / ADAPTER, fitted.adapter.to_bytes())
        return Training(
            encoder=self._encoder.name,
            dimension=self._encoder.dimension,
            adapter=ADAPTER,
            index=self._index(documents, material.documents, fitted.adapter),
            epochs=fitted.epochs,
            best_epoch=fitted.epoch,
            validation_mrr=fitted.validation_mrr,
            frozen_validation_mrr=fitted.frozen_validation_mrr,
            settings={
                "batch_size": self._settings.batch_pairs,
                "learning_rate": self._settings.learning_rate,
                "temperature": self._settings.temperature,
                "decay": self._settings.decay,
                "whitening": self._settings.whitening,
                "hard_negatives": self._settings.hard_negatives,
                "token_learning_rate": self._settings.token_learning_rate,
                "token_decay": self._settings.token_decay,
            },
        )

    def _index(self, frozen: Vectors, documents: Documents, adapter: Adapter) -> Vectors:
        """As the version's own encoder makes it, to the last bit."""
        if adapter.token_weights is not None:
            assert isinstance(self._encoder, TokenEncoder), "only those have tokens"
            frozen = self._encoder.weighted(adapter.token_weights).embed(documents.passages)
        return adapted_documents(frozen, adapter)


def trainer_of(kind: TrainerKind) -> Trainer:
    """The trainer that a plan asks for.

    Raises:
        MissingExtra: its libraries are not installed.
    """
    match kind:
        case TrainerKind.LINEAR_ADAPTER:
            return LinearAdapterTrainer(ServedEncoder())
        case TrainerKind.SENTENCE_TRANSFORMERS:
            from mlops.training.fine_tuning import SentenceTransformersTrainer  # noqa: PLC0415

            return SentenceTransformersTrainer.installed()


def embed_documents(
    documents: Documents, encoder: Encoder, folder: Path, progress: Progress = SILENT
) -> Vectors:
    """Frozen vectors of all passages."""
    texts = dict(zip(documents.ids, documents.passages, strict=True))
    return embedded(texts, encoder, folder / "embeddings/documents", progress=progress)


def embed_queries(
    pairs: list[Pair], encoder: Encoder, folder: Path, progress: Progress = SILENT
) -> Vectors:
    """Frozen vectors of the pairs' queries, in their order."""
    return embedded(
        {one.query_key: one.query_text for one in pairs},
        encoder,
        folder / "embeddings/queries",
        named={
            "request_id": [one.request_id for one in pairs],
            "user_id": [one.user_id for one in pairs],
        },
        progress=progress,
    )


def index_table(documents: Documents, index: Vectors) -> pa.Table:
    """The index as a file has it: one row for each document."""
    vectors = pa.FixedSizeListArray.from_arrays(
        pa.array(index.reshape(-1), pa.float32()), index.shape[1]
    )
    return pa.table({"id": documents.ids, "passage": documents.passages, "embedding": vectors})


def _pairs(material: Material, queries: Vectors, documents: Vectors) -> Pairs:
    position = {name: row for row, name in enumerate(material.documents.ids)}
    return Pairs(
        queries=queries,
        documents=documents,
        positives=np.array([position[one.document_id] for one in material.pairs], dtype=np.intp),
        training=material.positions(Split.TRAINING),
        validation=material.positions(Split.VALIDATION)[:MAX_VALIDATION],
        refused={
            row: np.array([position[name] for name in one.refused_ids if name in position], np.intp)
            for row, one in enumerate(material.pairs)
        },
    )


def _tokens(material: Material, encoder: TokenEncoder) -> PairTokens:
    return PairTokens(
        queries=encoder.tokens([one.query_text for one in material.pairs]),
        documents=encoder.tokens(material.documents.passages),
        table=encoder.table,
    )
