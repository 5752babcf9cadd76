"""Does a version's encoder match the index that it searches? Pure.

A server that declares its embedding space answers `GET /v1/embedding-space` with `Declaration`. The
index carries canaries: texts, and their vectors as they lie in the index. Embedded again by the
encoder that runs now, each must come out the same; otherwise every search is in the wrong space.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import msgspec

MIN_COSINE = 0.999
"""An index may hold its vectors in half precision or in eight bits; another model is far off."""

MAX_CANARIES = 32
"""More texts prove nothing more."""


class Canary(msgspec.Struct, frozen=True):
    """A text of the index, to be embedded again."""

    text: str
    vector: list[float]
    """As it lies in the index."""


class IndexSpace(msgspec.Struct, frozen=True):
    """The index that the version searches, as its server declares it."""

    name: str
    """Which index: a digest, an alias, a date."""
    model: str
    """What its vectors were made with."""
    dimension: int
    canaries: list[Canary] = []


class Declaration(msgspec.Struct, frozen=True):
    """What a server says of its embedding space; fields it adds are ignored."""

    model: str
    dimension: int
    index: IndexSpace | None = None
    id: str = ""
    """The name to embed with, in `POST /v1/embeddings`."""


def contradiction(declared: Declaration) -> str:
    """What the declaration itself says against the version; empty: nothing."""
    index = declared.index
    if index is None:
        return ""
    if index.dimension != declared.dimension:
        return (
            f"the encoder {declared.model!r} has {declared.dimension} dimensions, "
            f"its index {index.name!r} has {index.dimension}"
        )
    if index.model != declared.model:
        return f"the encoder is {declared.model!r}, its index {index.name!r} is of {index.model!r}"
    return ""


def mismatch(declared: Declaration, vectors: Sequence[Sequence[float]]) -> str:
    """What embedding the canaries again says against the version; empty: nothing."""
    canaries = declared.index.canaries[:MAX_CANARIES] if declared.index else []
    if len(vectors) != len(canaries):
        return f"{len(canaries)} canary texts were embedded as {len(vectors)} vectors"
    for canary, vector in zip(canaries, vectors, strict=True):
        if len(vector) != declared.dimension or len(canary.vector) != declared.dimension:
            return (
                f"{declared.dimension} dimensions are declared; the encoder gives {len(vector)}, "
                f"the index holds {len(canary.vector)}"
            )
        cosine = _cosine(canary.vector, vector)
        if not cosine >= MIN_COSINE:  # nor where it is no number: vectors too long to multiply
            return (
                f"the encoder does not match its index: a canary text has cosine {cosine:.3f} "
                f"to itself, at least {MIN_COSINE} expected"
            )
    return ""


def _cosine(one: Sequence[float], other: Sequence[float]) -> float:
    product = sum(a * b for a, b in zip(one, other, strict=True))
    norms = sqrt(sum(a * a for a in one)) * sqrt(sum(b * b for b in other))
    return product / norms if norms else 0.0
