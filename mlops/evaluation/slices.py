"""Parts of the held-out queries in which a model may lose while it gains on the whole. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]

MIN_QUERIES: Final = 20
"""A smaller slice says nothing that the bootstrap could tell from chance."""

SHORT_WORDS: Final = 4
LONG_WORDS: Final = 12
"""Queries of at most `SHORT_WORDS` words are keywords, of more than `LONG_WORDS` descriptions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a held-out query is told apart by."""

    text: str
    document_id: str
    domain: str
    """Of its right document."""
    first_asked_at: datetime


def slices_of(
    queries: Sequence[Asked],
    *,
    trained_documents: Collection[str],
    trained_domains: Collection[str],
    recent_since: datetime,
) -> dict[str, Mask]:
    """Masks by name, of at least `MIN_QUERIES` queries each.

    `document: new` are queries whose answer no training query had, `topic: new` those of a domain
    that training did not see, `asked: recently` those first asked at or after `recent_since`.
    """
    words = np.array([len(one.text.split()) for one in queries])
    new_document = np.array([one.document_id not in trained_documents for one in queries])
    new_topic = np.array([one.domain not in trained_domains for one in queries])
    recent = np.array([one.first_asked_at >= recent_since for one in queries])
    found: dict[str, Mask] = {
        f"length: up to {SHORT_WORDS} words": words <= SHORT_WORDS,
        f"length: {SHORT_WORDS + 1} to {LONG_WORDS} words": (words > SHORT_WORDS)
        & (words <= LONG_WORDS),
        f"length: over {LONG_WORDS} words": words > LONG_WORDS,
        "document: known": ~new_document,
        "document: new": new_document,
        "topic: new": new_topic,
        "asked: before": ~recent,
        "asked: recently": recent,
    }
    for domain in sorted({one.domain for one in queries}):
        if domain:
            found[f"domain: {domain}"] = np.array([one.domain == domain for one in queries])
    return {name: mask for name, mask in found.items() if mask.sum() >= MIN_QUERIES}
