"""Summary -> body pairs from the docstrings of numpy, scipy and the standard library.

A summary is a question in other words than its answer, written by people: the body of its docstring
is the right document. Documents are every body; queries are the summaries. A share of the summaries
is held out of training, by a hash of the document's name, so that the split never moves.
"""

from __future__ import annotations

import platform
import re
import sysconfig
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from enum import StrEnum
from hashlib import blake2b
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from mlops.serving.docstrings import Docstring, docstrings_under
from mlops.serving.files import write_whole

FORMAT = 1
"""Raised when building changes, so that an older cache is not read."""

MIN_SUMMARY_WORDS = 3
MIN_BODY_CHARS = 80
"""Shorter ones are remarks, not passages."""

MAX_BODY_CHARS = 1_500
"""A passage, not a manual: parameters and first notes; it also bounds the memory of a server."""

SPLIT_BUCKETS = 10
HELD_OUT_BUCKETS = frozenset({0, 1})
"""20 %: traffic and reported figures."""
VALIDATION_BUCKETS = frozenset({2})
"""10 %: tells training when to stop, so that the held-out ones are never looked at."""

_SIGNATURE = re.compile(r"^[\w.]+\(.*\)(\s*(->.*|--))?$", re.DOTALL)
"""`f(x, /, out=None)`: what compiled functions put where the summary belongs."""


class Split(StrEnum):
    """What a document's summary is used for."""

    TRAINING = "training"
    VALIDATION = "validation"
    HELD_OUT = "held_out"


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """One passage, and the summary that it answers."""

    id: str
    """The qualified name: stable between builds and between versions of the packages."""
    domain: str
    summary: str
    text: str

    @property
    def split(self) -> Split:
        """By its name alone."""
        return split_of(self.id)

    @property
    def passage(self) -> str:
        """What is embedded: the words of the name, then the text. Never the summary."""
        return f"{self.id.replace('.', ' ').replace('_', ' ')}: {self.text}"


class Corpus(msgspec.Struct, frozen=True, kw_only=True):
    """Documents in a fixed order, with a digest of their contents."""

    documents: tuple[Document, ...]
    digest: str

    def of_split(self, split: Split) -> list[int]:
        """Positions of the documents of one split."""
        return [i for i, document in enumerate(self.documents) if document.split is split]


def split_of(document_id: str) -> Split:
    """Where a document's summary belongs, by a hash of its name alone."""
    bucket = blake2b(document_id.encode(), digest_size=8).digest()[0] % SPLIT_BUCKETS
    if bucket in HELD_OUT_BUCKETS:
        return Split.HELD_OUT
    if bucket in VALIDATION_BUCKETS:
        return Split.VALIDATION
    return Split.TRAINING


def held_out_queries(corpus: Corpus) -> list[tuple[str, str]]:
    """Questions that no model was trained on: (query text, id of the right document)."""
    documents = (corpus.documents[i] for i in corpus.of_split(Split.HELD_OUT))
    return [(document.summary, document.id) for document in documents]


def reciprocal_rank(documents: Sequence[Mapping[str, Any]], document_id: str) -> float:
    """1 when the right document came first, 1/2 when second, 0 when it did not come.

    `documents` as in an answer of the model server, best first.
    """
    for rank, document in enumerate(documents, start=1):
        if document["id"] == document_id:
            return 1.0 / rank
    return 0.0


def load_corpus(cache: Path | None = None) -> Corpus:
    """The corpus of what is installed here; read from `cache` when built there before, and kept
    there where that can be."""
    if cache is None:
        return corpus_of(installed_docstrings())
    path = cache / f"corpus-{_installed_key()}.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=Corpus)
    except (OSError, msgspec.DecodeError):
        pass  # absent, or written by something else: built again below
    corpus = corpus_of(installed_docstrings())
    with suppress(OSError):  # a place that is only read, as a volume: built again at each start
        write_whole(path, msgspec.json.encode(corpus))
    return corpus


def corpus_of(sources: Iterable[tuple[str, Iterable[Docstring]]]) -> Corpus:
    """Pairs from (domain, docstrings) in the order given; the first of equal ones is kept."""
    documents: list[Document] = []
    seen: set[str] = set()
    for domain, docstrings in sources:
        for name, docstring in docstrings:
            pair = pair_of(docstring)
            if pair is None or not seen.isdisjoint({name, *pair}):
                continue
            seen.update((name, *pair))
            summary, text = pair
            documents.append(Document(id=name, domain=domain, summary=summary, text=text))
    digest = blake2b(msgspec.json.encode(documents), digest_size=16).hexdigest()
    return Corpus(documents=tuple(documents), digest=digest)


def pair_of(docstring: str) -> tuple[str, str] | None:
    """Summary and body of a docstring; None where one of them is missing or says too little."""
    paragraphs = [paragraph.strip() for paragraph in docstring.split("\n\n") if paragraph.strip()]
    if paragraphs and _SIGNATURE.match(paragraphs[0]):
        paragraphs = paragraphs[1:]
    if len(paragraphs) < 2:
        return None
    summary = " ".join(paragraphs[0].split())
    text = "\n\n".join(paragraphs[1:])[:MAX_BODY_CHARS].rstrip()
    if len(summary.split()) < MIN_SUMMARY_WORDS or len(text) < MIN_BODY_CHARS:
        return None
    return summary, text


def installed_docstrings() -> Iterator[tuple[str, Iterable[Docstring]]]:
    """Those of numpy, scipy and the standard library as they are here, by domain."""
    yield "numpy", _numpy_ufuncs()
    for package in ("numpy", "scipy"):
        yield package, docstrings_under(folder_of(package), package)
    yield "stdlib", docstrings_under(Path(sysconfig.get_path("stdlib")), "")


def _numpy_ufuncs() -> Iterator[Docstring]:
    """Their docstrings are compiled in: no source file holds them."""
    for name in sorted(vars(np)):
        value = vars(np)[name]
        if isinstance(value, np.ufunc) and value.__doc__:
            yield f"numpy.{value.__name__}", value.__doc__.strip()


def folder_of(package: str) -> Path:
    """Where an installed package lies.

    Raises:
        RuntimeError: it is not installed.
    """
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError(f"package {package!r} is not installed; the corpus is made from it")
    return Path(spec.submodule_search_locations[0])


def _installed_key() -> str:
    return (
        f"{FORMAT}-python{platform.python_version()}-numpy{version('numpy')}"
        f"-scipy{version('scipy')}"
    )
