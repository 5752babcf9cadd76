"""Make model versions: the base, a better one by training, a worse one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlops.serving.adapter import Adapter
from mlops.serving.corpus import Corpus, Split, load_corpus
from mlops.serving.embedder import DIMENSION, EMBEDDING_MODEL, Embedder
from mlops.serving.model import (
    ADAPTER,
    BadModel,
    ModelManifest,
    document_vectors,
    read_manifest,
    write_model,
)
from mlops.training.encoders import ServedEncoder
from mlops.training.fitting import FitSettings, fit, worse_adapter
from mlops.training.pairs import Pairs, PairTokens, Quality, quality
from mlops.training.token_texts import Positions

MODEL_NAME = "docs-retriever"
BASE_VERSION, BETTER_VERSION, WORSE_VERSION = "1.0.0", "1.1.0", "1.2.0"

WORSE_RANK = 32
"""Directions kept of 256; halves the held-out MRR of the base, and is still far from chance."""

DEMO_SEED = 7


@dataclass(frozen=True, slots=True)
class Material:
    """A corpus with the frozen embeddings of both sides of its pairs."""

    corpus: Corpus
    pairs: Pairs

    @classmethod
    def load(cls, corpus_cache: Path) -> Material:
        """The corpus of what is installed here, embedded; cached under `corpus_cache`."""
        corpus = load_corpus(corpus_cache)
        embedder = Embedder()
        encoder = ServedEncoder(embedder)
        questions = [document.summary for document in corpus.documents]
        pairs = Pairs(
            queries=encoder.embed(questions),
            documents=document_vectors(corpus, embedder, corpus_cache),
            positives=np.arange(len(corpus.documents)),
            training=positions(corpus, Split.TRAINING),
            validation=positions(corpus, Split.VALIDATION),
            tokens=PairTokens(
                queries=encoder.tokens(questions),
                documents=encoder.tokens([document.passage for document in corpus.documents]),
                table=encoder.table,
            ),
        )
        return cls(corpus=corpus, pairs=pairs)


def positions(corpus: Corpus, split: Split) -> Positions:
    """Rows of the corpus's questions that belong to a split."""
    return np.array(corpus.of_split(split), dtype=np.intp)


def base_model(out_dir: Path, material: Material, version: str) -> Quality:
    """Write a version of the frozen embedding alone; returns its held-out quality."""
    return _measure_and_write(out_dir, material, version, adapter=None)


def train(out_dir: Path, material: Material, version: str, seed: int) -> Quality:
    """Train the adapter and write it as a version; returns its held-out quality."""
    fitted = fit(material.pairs, seed=seed, settings=FitSettings())
    return _measure_and_write(out_dir, material, version, adapter=fitted.adapter)


def worse_model(out_dir: Path, material: Material, version: str, seed: int) -> Quality:
    """Write a version that retrieves clearly worse than the base; returns its held-out quality."""
    adapter = worse_adapter(WORSE_RANK, DIMENSION, seed)
    return _measure_and_write(out_dir, material, version, adapter=adapter)


def demo_model_paths(directory: Path) -> dict[str, Path]:
    """Where the demo's versions are, or will be."""
    return {
        version: directory / version for version in (BASE_VERSION, BETTER_VERSION, WORSE_VERSION)
    }


def prepare_demo_models(directory: Path) -> dict[str, Path]:
    """The base, the better and the worse version by name; made once, read after that.

    The corpus lies beside the versions, where a server looks for it unless told otherwise.
    """
    paths = demo_model_paths(directory)
    corpus = load_corpus(directory)
    if all(_is_current(path, version, corpus) for version, path in paths.items()):
        return paths
    material = Material.load(directory)
    base_model(paths[BASE_VERSION], material, BASE_VERSION)
    train(paths[BETTER_VERSION], material, BETTER_VERSION, DEMO_SEED)
    worse_model(paths[WORSE_VERSION], material, WORSE_VERSION, DEMO_SEED)
    return paths


def _is_current(path: Path, version: str, corpus: Corpus) -> bool:
    try:
        manifest = read_manifest(path)
    except BadModel:
        return False
    return manifest.version == version and manifest.corpus_digest == corpus.digest


def _measure_and_write(
    out_dir: Path, material: Material, version: str, adapter: Adapter | None
) -> Quality:
    measured = quality(material.pairs, positions(material.corpus, Split.HELD_OUT), adapter)
    manifest = ModelManifest(
        name=MODEL_NAME,
        version=version,
        embedding_model=EMBEDDING_MODEL,
        dimension=DIMENSION,
        adapter=None if adapter is None else ADAPTER,
        corpus_digest=material.corpus.digest,
        metrics={
            "held_out_mrr": round(measured.mrr, 4),
            "held_out_recall_at_1": round(measured.recall_at_1, 4),
            "held_out_recall_at_5": round(measured.recall_at_5, 4),
        },
    )
    write_model(out_dir, manifest, adapter)
    return measured
