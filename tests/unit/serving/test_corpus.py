from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from mlops.serving import corpus as corpus_module
from mlops.serving.corpus import (
    MAX_BODY_CHARS,
    Corpus,
    Split,
    corpus_of,
    folder_of,
    held_out_queries,
    load_corpus,
    pair_of,
    reciprocal_rank,
    split_of,
)
from mlops.serving.docstrings import Docstring, docstrings_under

BODY = "The body of a docstring must say something about what the function does, at some length."


@pytest.fixture
def corpus(corpus_cache: Path) -> Corpus:
    return load_corpus(corpus_cache)


def test_a_docstring_gives_its_summary_and_its_body() -> None:
    assert pair_of(f"Sum the\nelements given.\n\n{BODY}") == ("Sum the elements given.", BODY)


@pytest.mark.parametrize(
    "signature",
    ["f(x, /, out=None)", "f(x) -> float", "f(a,\n  b)\n--", "numpy.f(x, *, like=None) --"],
)
def test_a_signature_is_no_summary(signature: str) -> None:
    assert pair_of(f"{signature}\n\nSum the elements given.\n\n{BODY}") == (
        "Sum the elements given.",
        BODY,
    )


@pytest.mark.parametrize(
    "docstring", ["", "Sum the elements.", f"Sum it.\n\n{BODY}", "Sum the elements.\n\nToo short."]
)
def test_docstrings_that_say_too_little_are_left_out(docstring: str) -> None:
    assert pair_of(docstring) is None


def test_a_body_is_cut_at_its_bound() -> None:
    pair = pair_of("Sum the elements.\n\n" + "word " * 1_000)
    assert pair is not None
    assert MAX_BODY_CHARS - 5 <= len(pair[1]) <= MAX_BODY_CHARS


def test_equal_names_summaries_and_bodies_are_kept_once() -> None:
    def docstring(summary: str, body: str) -> str:
        return f"{summary}\n\n{body}"

    made = corpus_of(
        [
            (
                "d",
                [
                    ("a", docstring("Sum the elements.", BODY)),
                    ("a", docstring("Another summary here.", BODY + " a")),
                    ("b", docstring("Sum the elements.", BODY + " b")),
                    ("c", docstring("Yet another summary.", BODY)),
                    ("e", docstring("The last summary here.", BODY + " e")),
                ],
            )
        ]
    )
    assert [document.id for document in made.documents] == ["a", "e"]


def test_the_split_never_moves() -> None:
    names = ("os.walk", "json.loads", "random.choice", "re.sub", "zlib.crc32")
    assert [split_of(name).value for name in names] == [
        "training",
        "held_out",
        "held_out",
        "training",
        "validation",
    ]


def test_installed_packages_give_thousands_of_documents_of_three_domains(corpus: Corpus) -> None:
    assert 2_000 < len(corpus.documents) < 10_000
    assert {document.domain for document in corpus.documents} == {"numpy", "scipy", "stdlib"}
    assert len({document.id for document in corpus.documents}) == len(corpus.documents)


def test_the_cache_is_read(corpus: Corpus, corpus_cache: Path) -> None:
    (file,) = corpus_cache.iterdir()
    written_ns = file.stat().st_mtime_ns
    assert load_corpus(corpus_cache) == corpus
    assert file.stat().st_mtime_ns == written_ns


def test_a_damaged_cache_is_built_again_and_comes_out_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a part of what is installed: all of it takes seconds to read."""

    def part() -> Iterator[tuple[str, Iterable[Docstring]]]:
        yield "numpy", docstrings_under(folder_of("numpy") / "linalg", "numpy.linalg")

    monkeypatch.setattr(corpus_module, "installed_docstrings", part)
    corpus = load_corpus(tmp_path)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[:1_000])
    assert load_corpus(tmp_path) == corpus
    assert len(corpus.documents) > 10
    assert file.read_bytes() == whole


def test_held_out_queries_are_a_fifth_and_share_nothing_with_training(corpus: Corpus) -> None:
    queries = held_out_queries(corpus)
    training = {corpus.documents[i].summary for i in corpus.of_split(Split.TRAINING)}
    validation = {corpus.documents[i].summary for i in corpus.of_split(Split.VALIDATION)}
    asked = {text for text, _ in queries}
    assert 0.15 < len(queries) / len(corpus.documents) < 0.25
    assert asked.isdisjoint(training)
    assert asked.isdisjoint(validation)


def test_the_summary_is_not_in_what_is_embedded_of_most_documents(corpus: Corpus) -> None:
    leaked = sum(document.summary in document.passage for document in corpus.documents)
    assert leaked / len(corpus.documents) < 0.02


def test_reciprocal_rank() -> None:
    documents = [{"id": "a"}, {"id": "b"}]
    assert reciprocal_rank(documents, "a") == 1.0
    assert reciprocal_rank(documents, "b") == 0.5
    assert reciprocal_rank(documents, "c") == 0.0
    assert reciprocal_rank([], "a") == 0.0


def test_it_is_built_again_where_it_cannot_be_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container whose models are only read."""
    body = "the body of a docstring that says enough to be a passage of its own, at some length"
    found = [("a", [("a.b", f"What a does with b.\n\n{body}")])]
    monkeypatch.setattr("mlops.serving.corpus.installed_docstrings", lambda: found)
    no_place = tmp_path / "a file"
    no_place.touch()
    assert [one.id for one in load_corpus(no_place).documents] == ["a.b"]
