"""Rules that hold whatever bytes come, on the kept corpus and on what Hypothesis makes of it.

`make fuzz` looks for more, guided by coverage.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz import answers, harness

CORPUS = Path(harness.__file__).parent / "corpus"
REQUESTS = sorted((CORPUS / "requests").iterdir())
ANSWERS = sorted((CORPUS / "answers").iterdir())
WORDS = (
    *(b"\r\n", b"\r\n\r\n", b"\n", b"\r", b"\0", b" ", b":", b"0", b"5\r\n", b"0\r\n\r\n", b","),
    *(b"HTTP/1.1", b"HTTP/1.0", b"Host: a\r\n", b"Content-Length: 5\r\n", b"hello"),
    *(b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n", b"TE: trailers\r\n"),
    *(b"Connection: upgrade\r\nUpgrade: h2c\r\n", b"Connection: upgrade\r\nUpgrade: x\r\n"),
    *(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"HTTP/1.1 103 E\r\n\r\n", b"\xff", b";a=b"),
)
MAX_INPUT_BYTES = 4096


@st.composite
def mutated(draw: st.DrawFn, files: list[Path]) -> bytes:
    """One or two kept inputs, put together and changed in a few places."""
    data = b"".join(
        path.read_bytes() for path in draw(st.lists(st.sampled_from(files), min_size=1, max_size=2))
    )
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        cut = draw(st.sampled_from((0, 0, 1, 2, 10)))
        word = draw(st.sampled_from(WORDS) | st.binary(max_size=3))
        data = data[:at] + word + data[at + cut :]
    return data[:MAX_INPUT_BYTES]


@pytest.mark.parametrize("path", REQUESTS, ids=lambda path: path.name)
def test_kept_requests(path: Path) -> None:
    harness.check_requests(path.read_bytes())


@pytest.mark.parametrize("path", ANSWERS, ids=lambda path: path.name)
def test_kept_answers(path: Path) -> None:
    for asked in answers.ASKED:
        answers.check_answers(path.read_bytes(), asked)


@settings(max_examples=400, deadline=None)
@given(mutated(REQUESTS))
def test_requests_are_forwarded_as_they_were_meant_or_not_at_all(data: bytes) -> None:
    harness.check_requests(data)


@settings(max_examples=400, deadline=None)
@given(mutated(ANSWERS), st.sampled_from(answers.ASKED))
def test_answers_are_passed_on_as_they_were_meant_or_visibly_cut(data: bytes, asked: bytes) -> None:
    answers.check_answers(data, asked)
