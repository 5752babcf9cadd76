"""What a trained version is made of, as it lies in a folder: weights, index, and what they are."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from pyarrow import parquet

from mlops.serving.adapter import Adapter, adapted_queries
from mlops.serving.embedder import EMBEDDING_MODEL, Vectors
from mlops.serving.files import write_whole
from mlops.serving.index import Index
from mlops.serving.model import BadModel
from mlops.training.documents import Documents
from mlops.training.encoders import Encoder, ServedEncoder
from mlops.training.pair_files import write_table
from mlops.training.trainers import Training, index_table

DESCRIPTION: Final = "training.json"
INDEX: Final = "index.parquet"


class Description(msgspec.Struct, frozen=True, kw_only=True):
    """What the files of a version are, before it has a number."""

    encoder: str
    dimension: int
    adapter: str | None
    """Name of the adapter's file; None: the encoder itself was trained and lies in `encoder/`."""
    documents_digest: str
    index_digest: str
    trainer: str
    seed: int
    settings: dict[str, str | int | float] = {}


class Found(msgspec.Struct, frozen=True):
    """A document found, with its similarity to the query."""

    id: str
    score: float


class RetrievalModel:
    """Encoder, adapter and index of one version: from a question to documents."""

    def __init__(
        self, description: Description, encoder: Encoder, adapter: Adapter | None, folder: Path
    ) -> None:
        self.description = description
        self._encoder = encoder
        self._adapter = adapter
        table = parquet.read_table(folder / INDEX)
        self._ids: list[str] = table.column("id").to_pylist()
        flat = table.column("embedding").combine_chunks().flatten().to_numpy()
        self.vectors: Vectors = flat.reshape(-1, description.dimension)
        self._index = Index(self.vectors)

    @property
    def bytes(self) -> int:
        """Of trained weights and index; the frozen encoder is every version's."""
        weights = 0 if self._adapter is None else self._adapter.nbytes
        return weights + self.vectors.nbytes

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Questions in this version's space."""
        return adapted_queries(self._encoder.embed(texts), self._adapter)

    def search(self, text: str, count: int = 5) -> list[Found]:
        """The nearest documents, best first."""
        (vector,) = self.embed([text])
        return [Found(self._ids[row], score) for row, score in self._index.nearest(vector, count)]


def write_version(
    folder: Path, training: Training, documents: Documents, *, trainer: str, seed: int
) -> Description:
    """Describe what a trainer wrote into `folder`, and put the index beside it."""
    description = Description(
        encoder=training.encoder,
        dimension=training.dimension,
        adapter=training.adapter,
        documents_digest=documents.digest,
        index_digest=index_digest(training.index),
        trainer=trainer,
        seed=seed,
        settings=training.settings,
    )
    write_table(folder / INDEX, index_table(documents, training.index))
    content = msgspec.json.format(msgspec.json.encode(description)) + b"\n"
    write_whole(folder / DESCRIPTION, content)
    return description


def index_digest(index: Vectors) -> str:
    """32 characters; of the vectors, rounded to what another machine would get too."""
    rounded = np.round(index.astype(np.float64), 4) + 0.0  # no negative zero
    return blake2b(rounded.astype("<f4").tobytes(), digest_size=16).hexdigest()


def load_version(folder: Path) -> RetrievalModel:
    """Read what `write_version` and the trainer wrote.

    Raises:
        BadModel: something is missing, or does not fit.
    """
    description = read_description(folder)
    try:
        adapter = None
        if description.adapter is not None:
            adapter = Adapter.from_bytes((folder / description.adapter).read_bytes())
        encoder = encoder_of(description, folder)
        if adapter is not None and adapter.token_weights is not None:
            assert isinstance(encoder, ServedEncoder), "encoders that are trained have no adapter"
            encoder = encoder.weighted(adapter.token_weights)
        return RetrievalModel(description, encoder, adapter, folder)
    except (OSError, ValueError, KeyError, msgspec.MsgspecError) as error:
        raise BadModel(f"{folder} is not a trained version: {error}") from error


def read_description(folder: Path) -> Description:
    """What the files of a version are.

    Raises:
        BadModel: there is none, or it does not fit.
    """
    try:
        return msgspec.json.decode((folder / DESCRIPTION).read_bytes(), type=Description)
    except (OSError, msgspec.MsgspecError) as error:
        raise BadModel(f"{folder} is not a trained version: {error}") from error


def encoder_of(description: Description, folder: Path) -> Encoder:
    """The encoder of a version.

    Raises:
        BadModel: it is none that is known here.
    """
    if description.adapter is None:
        from mlops.training.fine_tuning import FOLDER, FineTunedEncoder  # noqa: PLC0415

        return FineTunedEncoder.load(folder / FOLDER, description.encoder, description.dimension)
    if description.encoder != EMBEDDING_MODEL:
        raise BadModel(f"encoder {description.encoder!r}; this machine has {EMBEDDING_MODEL!r}")
    return ServedEncoder()
