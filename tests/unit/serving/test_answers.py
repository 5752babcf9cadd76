from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mlops.serving.answers import (
    CHUNK_WORDS,
    MAX_QUOTED_CHARS,
    NOTHING_FOUND,
    answer_text,
    pieces_of,
)
from mlops.serving.corpus import Document
from mlops.serving.model import Hit


def hit(name: str, text: str, score: float = 0.5) -> Hit:
    return Hit(Document(id=name, domain="d", summary="s", text=text), score)


def test_the_two_best_passages_are_quoted_word_for_word() -> None:
    hits = [hit("a", "First passage."), hit("b", "Second passage."), hit("c", "Third.")]
    assert answer_text(hits) == "a: First passage.\n\nb: Second passage."


def test_long_passages_end_at_a_word() -> None:
    answer = answer_text([hit("a", "word " * 1_000)])
    assert answer.endswith("word …")
    assert len(answer) <= MAX_QUOTED_CHARS + len("a:  …")


def test_nothing_similar_is_said_so() -> None:
    assert answer_text([hit("a", "Passage.", score=0.0)]) == NOTHING_FOUND


@given(st.text())
def test_pieces_joined_are_the_text_and_none_is_long(text: str) -> None:
    pieces = list(pieces_of(text))
    assert "".join(pieces) == text
    assert all(0 < len(piece.split()) <= CHUNK_WORDS + 1 for piece in pieces if piece.strip())
