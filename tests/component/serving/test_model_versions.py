from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import wordllama

from mlops.serving.adapter import Adapter
from mlops.serving.bodies import Side
from mlops.serving.corpus import Corpus, Document, held_out_queries, load_corpus
from mlops.serving.embedder import DIMENSION, MAX_TOKENS, Embedder
from mlops.serving.model import (
    KEPT_VECTORS,
    BadModel,
    document_vectors,
    load_model,
    read_manifest,
)
from mlops.training.linear_adapter import (
    BASE_VERSION,
    BETTER_VERSION,
    DEMO_SEED,
    WORSE_VERSION,
    Material,
    prepare_demo_models,
    train,
)


def held_out_mrr(versions: dict[str, Path], version: str) -> float:
    return read_manifest(versions[version]).metrics["held_out_mrr"]


def test_the_adapter_is_better_and_the_collapsed_one_worse(versions: dict[str, Path]) -> None:
    base = held_out_mrr(versions, BASE_VERSION)
    assert held_out_mrr(versions, BETTER_VERSION) >= base + 0.12
    assert 0.02 < held_out_mrr(versions, WORSE_VERSION) <= base - 0.12


def test_training_again_gives_the_same_bytes(
    versions: dict[str, Path], material: Material, tmp_path: Path
) -> None:
    train(tmp_path, material, BETTER_VERSION, DEMO_SEED)
    for name in ("adapter.npz", "manifest.json"):
        assert (tmp_path / name).read_bytes() == (versions[BETTER_VERSION] / name).read_bytes()


def test_versions_are_made_once_and_again_when_one_is_damaged(versions: dict[str, Path]) -> None:
    directory = versions[BASE_VERSION].parent
    files = {path: path.stat().st_mtime_ns for path in directory.rglob("*") if path.is_file()}
    assert prepare_demo_models(directory) == versions
    assert {path: path.stat().st_mtime_ns for path in files} == files
    manifest = versions[WORSE_VERSION] / "manifest.json"
    before = manifest.read_bytes()
    manifest.write_text("{}")
    prepare_demo_models(directory)
    assert manifest.read_bytes() == before


def test_embeddings_are_those_of_the_library() -> None:
    texts = ["join two paths", "Compute the mean.", "a"]
    library = wordllama.WordLlama.load(
        cache_dir=Path(wordllama.__file__).parent, disable_download=True
    )
    embedder = Embedder()
    assert np.allclose(embedder.embed(texts), library.embed(texts, norm=True), atol=1e-6)
    for text in texts:
        vector, tokens = embedder.embed_one(text)
        assert (vector == embedder.embed([text])[0]).all()
        assert tokens == len(library.tokenizer.encode(text, add_special_tokens=False).ids)


def test_empty_and_endless_texts_are_embedded_within_bounds() -> None:
    embedder = Embedder()
    empty, none = embedder.embed_one("")
    assert (none, float(np.abs(empty).sum())) == (0, 0.0)
    shortened, tokens = embedder.embed_one("word " * (2 * MAX_TOKENS))
    assert tokens > MAX_TOKENS
    assert np.linalg.norm(shortened) == pytest.approx(1, abs=1e-5)


@pytest.fixture
def broken(versions: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of a good version, for a test to break."""
    return Path(shutil.copytree(versions[BETTER_VERSION], tmp_path / "version"))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"dimension": 128}, "128"),
        ({"embedding_model": "other"}, "'other'"),
        ({"adapter": "../adapter.npz"}, "not the name of a file"),
        ({"adapter": "missing.npz"}, "not an adapter"),
        ({"corpus_digest": "0000"}, "made for documents 0000"),
        ({"colour": "red"}, "colour"),
        ({"version": 3}, "version"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(
    broken: Path, versions: dict[str, Path], changed: dict[str, object], said: str
) -> None:
    path = broken / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_bytes()), **changed}))
    with pytest.raises(BadModel, match=said):
        load_model(broken, versions[BETTER_VERSION].parent)


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        (np.eye(3, dtype=np.float32), "is for 3 numbers; expected 256"),
        (np.eye(4, 3, dtype=np.float32), "expected float32"),
        (np.eye(DIMENSION, dtype=np.float64), "float64"),
        (np.full((DIMENSION, DIMENSION), np.nan, dtype=np.float32), "not finite"),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused(
    broken: Path, versions: dict[str, Path], weights: np.ndarray, said: str
) -> None:
    np.savez(broken / "adapter.npz", weights=weights)
    with pytest.raises(BadModel, match=said):
        load_model(broken, versions[BETTER_VERSION].parent)


def test_weights_of_another_vocabulary_are_refused(broken: Path, versions: dict[str, Path]) -> None:
    eye = Adapter.identity(DIMENSION)
    few = replace(eye, token_weights=np.ones(5, dtype=np.float32))
    (broken / "adapter.npz").write_bytes(few.to_bytes())
    with pytest.raises(BadModel, match=r"5 token weights; .* has 32000 tokens"):
        load_model(broken, versions[BETTER_VERSION].parent)


def test_a_version_with_token_weights_serves_what_was_measured(versions: dict[str, Path]) -> None:
    """Its questions find their documents as often as training said."""
    cache = versions[BETTER_VERSION].parent
    model = load_model(versions[BETTER_VERSION], cache)
    questions = held_out_queries(load_corpus(cache))[:300]
    vectors = [model.embed(text)[0] for text, _ in questions]
    firsts = [model.nearest(vector, 1)[0].document.id for vector in vectors]
    found = np.mean([first == right for first, (_, right) in zip(firsts, questions, strict=True)])
    said = model.manifest.metrics["held_out_recall_at_1"]
    assert found == pytest.approx(said, abs=0.1)  # of the first 300 alone
    assert (
        Adapter.from_bytes((versions[BETTER_VERSION] / "adapter.npz").read_bytes()).token_weights
        is not None
    )


def test_vectors_of_old_versions_are_not_kept_for_ever(tmp_path: Path) -> None:
    document = Document(id="a.b", domain="a", summary="what a is", text="an a, as it were")
    small = Corpus(documents=(document,), digest="d")
    embedder = Embedder()
    for strength in range(KEPT_VECTORS + 3):
        weights = np.full(32_000, 1 + strength, dtype=np.float32)
        document_vectors(small, embedder.weighted(weights), tmp_path)
    assert len(list(tmp_path.glob("passages-*.npy"))) == KEPT_VECTORS


def test_vectors_are_made_again_where_they_cannot_be_kept(tmp_path: Path) -> None:
    """As in a container whose models are only read."""
    document = Document(id="a.b", domain="a", summary="what a is", text="an a, as it were")
    small = Corpus(documents=(document,), digest="d")
    no_place = tmp_path / "a file"
    no_place.touch()
    assert document_vectors(small, Embedder(), no_place).shape == (1, DIMENSION)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 torn", b"not an archive"])
def test_a_torn_adapter_is_refused(broken: Path, versions: dict[str, Path], content: bytes) -> None:
    (broken / "adapter.npz").write_bytes(content)
    with pytest.raises(BadModel, match="not an adapter"):
        load_model(broken, versions[BETTER_VERSION].parent)


def test_a_directory_without_a_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadModel, match="not a model version"):
        load_model(tmp_path, tmp_path)


@pytest.mark.parametrize("version", [BASE_VERSION, BETTER_VERSION])
@pytest.mark.parametrize("side", ["query", "document"])
def test_a_text_in_a_batch_gets_the_bytes_that_it_gets_alone(
    versions: dict[str, Path], version: str, side: Side
) -> None:
    model = load_model(versions[version], versions[version].parent)
    texts = ["a", "join two paths " * 40, "the mean of an array", "join two paths", " "] * 7

    together = model.embed_many(texts, side)

    alone = [model.embed_many([text], side)[0] for text in texts]
    if side == "query":
        assert [vector.tobytes() for vector, _ in alone] == [
            model.embed(text)[0].tobytes() for text in texts
        ]
    assert [count for _, count in together] == [count for _, count in alone]
    for (vector, _), (other, _) in zip(together, alone, strict=True):
        assert vector.tobytes() == other.tobytes()
