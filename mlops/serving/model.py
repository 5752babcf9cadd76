"""One embedding model version: a directory with `manifest.json` and perhaps `adapter.npz`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import msgspec
import numpy as np

from mlops.serving.adapter import Adapter, adapted_documents, adapted_each, adapted_queries
from mlops.serving.bodies import Side
from mlops.serving.corpus import Corpus, Document, load_corpus
from mlops.serving.embedder import DIMENSION, EMBEDDING_MODEL, Embedder, Vectors
from mlops.serving.files import write_whole
from mlops.serving.index import Index

MANIFEST = "manifest.json"
ADAPTER = "adapter.npz"

WARM_UP_TEXTS = (
    "What is a lease?",
    "warm",
    "a question of some length about nothing at all",
)

KEPT_VECTORS = 8
"""Files with the vectors of all passages that stay on disk, some MB each: those of the versions in
memory, and some to go back to."""

CANARIES = 3
"""Texts that are embedded again to see that encoder and index belong together."""


class BadModel(ValueError):
    """A version that cannot be served; says what was expected and what came."""

    def __init__(self, message: str, *, code: str = "not_servable") -> None:
        super().__init__(message)
        self.code = code
        """The store's word for it where it could not be fetched."""


class ModelManifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a model version is made of."""

    name: str
    version: str
    embedding_model: str
    dimension: int
    adapter: str | None
    """File of the linear adapter beside the manifest; None for the frozen embedding alone."""
    corpus_digest: str
    """The documents it was measured on, and is served with."""
    metrics: dict[str, float] = {}
    """On held-out queries."""


class Hit(msgspec.Struct, frozen=True):
    """A document found, with its similarity to the query."""

    document: Document
    score: float


class Model:
    """A loaded version: embeds texts and finds documents. Immutable after construction."""

    def __init__(
        self,
        manifest: ModelManifest,
        embedder: Embedder,
        adapter: Adapter | None,
        corpus: Corpus,
        base_vectors: Vectors,
    ) -> None:
        self.manifest = manifest
        self.name = manifest.name
        self.version = manifest.version
        self.snapshot = f"{manifest.name}-{manifest.version}"
        self.dimension: int | None = manifest.dimension
        self._embedder = embedder
        self._adapter = adapter
        self._documents = corpus.documents
        self._index = Index(adapted_documents(base_vectors, adapter))

    def embed(self, text: str) -> tuple[Vectors, int]:
        """The unit vector of a query in this version's space, and its number of tokens."""
        vector, tokens = self._embedder.embed_one(text)
        return adapted_queries(vector, self._adapter), tokens

    def embed_many(
        self, texts: Sequence[str], side: Side = "document"
    ) -> list[tuple[Vectors, int]]:
        """Each as alone, to the last bit: a text's vector depends on no other's."""
        units, counts = self._embedder.embed_counted(texts)
        if self._adapter is not None:
            is_query = side == "query"
            units = adapted_each(
                units, self._adapter.queries if is_query else self._adapter.documents
            )
        return list(zip(units, counts, strict=True))

    def warm_up(self) -> None:
        """Answer some questions: caches fill, and a broken version shows."""
        for text in WARM_UP_TEXTS:
            vector, _ = self.embed(text)
            self.nearest(vector, 1)

    def nearest(self, vector: Vectors, count: int) -> list[Hit]:
        """The documents nearest to a vector of this version's space, best first."""
        return [
            Hit(self._documents[row], score) for row, score in self._index.nearest(vector, count)
        ]

    def canaries(self) -> list[tuple[str, Vectors]]:
        """Some documents' texts and their vectors in the index: embedded again they are the same
        where the encoder matches the index."""
        step = max(1, len(self._documents) // CANARIES)
        rows = range(0, len(self._documents), step)[:CANARIES]
        return [(self._documents[row].passage, self._index.row(row)) for row in rows]

    def count_tokens(self, text: str) -> int:
        """Of the encoder's, all of the text."""
        return len(self._embedder.token_ids(text))


def load_model(directory: Path, corpus_cache: Path) -> Model:
    """Load a version and index the documents with it.

    Raises:
        BadModel: the directory does not hold a version that this server can serve.
    """
    manifest = read_manifest(directory)
    adapter = read_adapter(directory, manifest)
    corpus = load_corpus(corpus_cache)
    if corpus.digest != manifest.corpus_digest:
        raise BadModel(
            f"{directory} was made for documents {manifest.corpus_digest}; "
            f"those installed here are {corpus.digest}"
        )
    try:
        embedder = Embedder().weighted(adapter.token_weights if adapter else None)
    except ValueError as error:
        raise BadModel(f"{directory}: {error}") from error
    vectors = document_vectors(corpus, embedder, corpus_cache)
    return Model(manifest, embedder, adapter, corpus, vectors)


def read_manifest(directory: Path) -> ModelManifest:
    """Read and check `manifest.json`.

    Raises:
        BadModel: it is missing, malformed, or of another embedding model.
    """
    path = directory / MANIFEST
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=ModelManifest)
    except OSError as error:
        raise BadModel(f"{directory} is not a model version: {error}") from error
    except msgspec.MsgspecError as error:
        raise BadModel(f"{path}: {error}") from error
    if (manifest.embedding_model, manifest.dimension) != (EMBEDDING_MODEL, DIMENSION):
        raise BadModel(
            f"{path} is for {manifest.embedding_model!r} with {manifest.dimension} numbers; "
            f"this server has {EMBEDDING_MODEL!r} with {DIMENSION}"
        )
    if manifest.adapter is not None and Path(manifest.adapter).name != manifest.adapter:
        raise BadModel(f"{path}: adapter {manifest.adapter!r} is not the name of a file beside it")
    return manifest


def write_model(directory: Path, manifest: ModelManifest, adapter: Adapter | None) -> None:
    """Write a version; the manifest comes last, so that a directory with one is complete."""
    if adapter is not None:
        write_whole(directory / ADAPTER, adapter.to_bytes())
    write_manifest(directory, manifest)


def write_manifest(directory: Path, manifest: ModelManifest) -> None:
    """Write `manifest.json` alone: what makes a directory a version."""
    document = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
    write_whole(directory / MANIFEST, document + b"\n")


def document_vectors(corpus: Corpus, embedder: Embedder, cache: Path) -> Vectors:
    """The encoder's vectors of every passage, read from `cache` when made there before."""
    path = cache / f"passages-{embedder.name}-{corpus.digest}.npy"
    shape = (len(corpus.documents), DIMENSION)
    try:
        vectors: Vectors = np.load(path, allow_pickle=False)
        if vectors.shape == shape and vectors.dtype == np.float32:
            return vectors
    except (OSError, ValueError, EOFError):
        pass  # absent, or written by something else: made again below
    vectors = embedder.embed([document.passage for document in corpus.documents])
    content = BytesIO()
    np.save(content, vectors, allow_pickle=False)
    with suppress(OSError):  # a place that is only read, as a volume: made again at each start
        write_whole(path, content.getvalue())
        _forget_oldest(cache)
    return vectors


def _forget_oldest(cache: Path) -> None:
    """Each version with token weights leaves a file; those of old versions go."""
    found = []
    for path in cache.glob("passages-*.npy"):
        with suppress(FileNotFoundError):  # another server of this machine was first
            found.append((path.stat().st_mtime_ns, path))
    for _, path in sorted(found)[:-KEPT_VECTORS]:
        path.unlink(missing_ok=True)


def read_adapter(directory: Path, manifest: ModelManifest) -> Adapter | None:
    """The adapter that the manifest names; None where it names none.

    Raises:
        BadModel: the file is missing, or is no adapter for this encoder.
    """
    if manifest.adapter is None:
        return None
    path = directory / manifest.adapter
    try:
        adapter = Adapter.from_bytes(path.read_bytes())
    except (OSError, ValueError) as error:
        raise BadModel(f"{path} is not an adapter: {error}") from error
    if adapter.dimension != manifest.dimension:
        raise BadModel(f"{path} is for {adapter.dimension} numbers; expected {manifest.dimension}")
    return adapter
