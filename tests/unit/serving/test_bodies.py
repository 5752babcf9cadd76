from __future__ import annotations

import json

import pytest

from mlops.serving.bodies import (
    MAX_BATCH_TEXTS,
    MAX_TEXT_CHARS,
    BadRequest,
    ChatRequest,
    EmbeddingsRequest,
    QueryRequest,
    decode,
)


def refusal(content: object, body_type: type) -> str:
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    with pytest.raises(BadRequest) as caught:
        decode(raw, body_type)
    return str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b'{"nested": ' + b"[" * 100_000, "not JSON"),
        ([], "object"),
        ({}, "query_text"),
        ({"query_text": 3}, "query_text"),
        ({"query_text": "  "}, "query_text is empty"),
        ({"query_text": "x" * (MAX_TEXT_CHARS + 1)}, f"{MAX_TEXT_CHARS + 1} characters"),
        ({"query_text": "x", "top_k": 0}, "top_k is 0"),
        ({"query_text": "x", "top_k": 21}, "top_k is 21"),
        ({"query_text": "x", "top_k": 1.5}, "top_k"),
        ({"query_text": "x", "user_id": "u" * 300}, "user_id has 300"),
    ],
)
def test_a_bad_query_is_refused_by_name(content: object, said: str) -> None:
    assert said in refusal(content, QueryRequest)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"model": "m"}, "input"),
        ({"model": "m", "input": []}, "0 texts"),
        ({"model": "m", "input": ["x"] * (MAX_BATCH_TEXTS + 1)}, f"{MAX_BATCH_TEXTS + 1} texts"),
        ({"model": "m", "input": ["x", ""]}, "input[1] is empty"),
        ({"model": "m", "input": [1, 2]}, "input"),
        ({"model": "m", "input": "x", "encoding_format": "hex"}, "encoding_format"),
    ],
)
def test_bad_embedding_requests_are_refused_by_name(content: object, said: str) -> None:
    assert said in refusal(content, EmbeddingsRequest)


ASKED = [{"role": "user", "content": "hello there"}]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"model": "m", "messages": []}, "0 entries"),
        ({"model": "m", "messages": [{"role": "system", "content": "x"}]}, "last user message"),
        ({"model": "m", "messages": [{"role": "robot", "content": "x"}]}, "role"),
        ({"model": "m", "messages": ASKED, "n": 2}, "n is 2"),
        ({"model": "m", "messages": ASKED, "max_tokens": 0}, "tokens is 0"),
        ({"model": "m", "messages": ASKED, "stream_options": {}}, "stream_options"),
    ],
)
def test_bad_chats_are_refused_by_name(content: object, said: str) -> None:
    assert said in refusal(content, ChatRequest)


def test_the_last_user_message_is_the_question_also_in_parts() -> None:
    body = {
        "model": "m",
        "messages": [
            *ASKED,
            {"role": "assistant", "content": "hi"},
            {
                "role": "user",
                "content": [{"type": "text", "text": "and"}, {"type": "text", "text": "now"}],
            },
            {"role": "assistant", "content": None},
        ],
        "temperature": 0.2,
    }
    assert decode(json.dumps(body).encode(), ChatRequest).question == "and\nnow"


def test_unknown_fields_of_a_query_are_ignored() -> None:
    body = decode(b'{"query_text": "x", "trace": 1}', QueryRequest)
    assert (body.query_text, body.top_k) == ("x", 5)
