"""One embedding model version: a directory with `manifest.json` and perhaps `adapter.npz`."""

from __future__ import annotations

import zipfile
from io import BytesIO
from pathlib import Path

import msgspec
import numpy as np

from mlops.serving.corpus import Corpus, Document, load_corpus
from mlops.serving.embedder import DIMENSION, EMBEDDING_MODEL, Embedder, Vectors, normalised
from mlops.serving.files import write_whole
from mlops.serving.index import Index

MANIFEST = "manifest.json"
ADAPTER = "adapter.npz"

CANARIES = 3
"""Texts that are embedded again to see that encoder and index belong together."""


class BadModel(ValueError):
    """A model directory that cannot be served; says what was expected and what came."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
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
        manifest: Manifest,
        embedder: Embedder,
        adapter: Vectors | None,
        corpus: Corpus,
        base_vectors: Vectors,
    ) -> None:
        self.manifest = manifest
        self.snapshot = f"{manifest.name}-{manifest.version}"
        self._embedder = embedder
        self._adapter = adapter
        self._documents = corpus.documents
        self._index = Index(adapted(base_vectors, adapter))

    def embed(self, text: str) -> tuple[Vectors, int]:
        """The unit vector of `text` in this version's space, and its number of tokens."""
        vector, tokens = self._embedder.embed_one(text)
        return adapted(vector, self._adapter), tokens

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
        return len(self._embedder.token_ids(text))


def adapted(vectors: Vectors, adapter: Vectors | None) -> Vectors:
    """Unit vectors after the linear adapter; the same ones where there is none."""
    return vectors if adapter is None else normalised(vectors @ adapter)


def load_model(directory: Path, corpus_cache: Path) -> Model:
    """Load a version and index the documents with it.

    Raises:
        BadModel: the directory does not hold a version that this server can serve.
    """
    manifest = read_manifest(directory)
    adapter = _read_adapter(directory / manifest.adapter) if manifest.adapter else None
    corpus = load_corpus(corpus_cache)
    if corpus.digest != manifest.corpus_digest:
        raise BadModel(
            f"{directory} was made for documents {manifest.corpus_digest}; "
            f"those installed here are {corpus.digest}"
        )
    embedder = Embedder()
    vectors = document_vectors(corpus, embedder, corpus_cache)
    return Model(manifest, embedder, adapter, corpus, vectors)


def read_manifest(directory: Path) -> Manifest:
    """Read and check `manifest.json`.

    Raises:
        BadModel: it is missing, malformed, or of another embedding model.
    """
    path = directory / MANIFEST
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
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


def write_model(directory: Path, manifest: Manifest, adapter: Vectors | None) -> None:
    """Write a version; the manifest comes last, so that a directory with one is complete."""
    if adapter is not None:
        content = BytesIO()
        np.savez(content, weights=adapter)
        write_whole(directory / ADAPTER, content.getvalue())
    document = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
    write_whole(directory / MANIFEST, document + b"\n")


def document_vectors(corpus: Corpus, embedder: Embedder, cache: Path) -> Vectors:
    """Frozen embeddings of every passage, read from `cache` when made there before."""
    path = cache / f"passages-{EMBEDDING_MODEL}-{corpus.digest}.npy"
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
    write_whole(path, content.getvalue())
    return vectors


def _read_adapter(path: Path) -> Vectors:
    try:
        with np.load(BytesIO(path.read_bytes()), allow_pickle=False) as file:
            weights: Vectors = file["weights"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise BadModel(f"{path} is not an adapter: {error}") from error
    if weights.shape != (DIMENSION, DIMENSION) or weights.dtype != np.float32:
        raise BadModel(
            f"{path} holds {weights.dtype} of shape {weights.shape}; "
            f"expected float32 of {(DIMENSION, DIMENSION)}"
        )
    if not np.isfinite(weights).all():
        raise BadModel(f"{path} holds numbers that are not finite")
    return weights
