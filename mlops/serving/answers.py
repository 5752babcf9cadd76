"""Extractive answers: the best passages, word for word, with where they come from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mlops.serving.model import Hit

QUOTED_PASSAGES = 2
MAX_QUOTED_CHARS = 600
"""Of each passage; cut at the end of a word."""

CHUNK_WORDS = 8
"""Words in one streamed chunk: an answer comes in some ten to thirty of them."""

NOTHING_FOUND = "No passage matches this question."


def answer_text(hits: Sequence[Hit]) -> str:
    """Quote the best passages, each under the name of its document."""
    quoted = [
        f"{hit.document.id}: {_shortened(hit.document.text)}"
        for hit in hits[:QUOTED_PASSAGES]
        if hit.score > 0
    ]
    return "\n\n".join(quoted) or NOTHING_FOUND


def pieces_of(text: str) -> Iterator[str]:
    """Cut `text` into pieces of a few words; joined they are the text again."""
    start = words = 0
    for position in range(1, len(text)):
        if text[position - 1].isspace() and not text[position].isspace():
            words += 1
            if words % CHUNK_WORDS == 0:
                yield text[start:position]
                start = position
    if start < len(text):
        yield text[start:]


def _shortened(text: str) -> str:
    if len(text) <= MAX_QUOTED_CHARS:
        return text
    kept = text[:MAX_QUOTED_CHARS]
    return f"{kept[: kept.rfind(' ')] if ' ' in kept else kept} …"
