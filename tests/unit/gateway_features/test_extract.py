"""The fields of each profile, and a named reason for whatever is not there."""

from __future__ import annotations

import base64
import gzip
import json
import struct
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.features.bodies import MAX_DECODED_BYTES
from gateway.features.extract import extract
from gateway.features.model import Body, Features
from mlops.contracts.record import MAX_EMBEDDING_LENGTH, MAX_TEXT_CHARS


def body(value: Any, **changes: Any) -> Body:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return Body(**{"content_type": "application/json", "data": data, **changes})


QUESTION = {"query_text": "why is the sky blue", "user_id": "u1", "session_id": "s1", "top_k": 2}
ANSWER = {
    "query_id": "q-9",
    "answer": "Rayleigh scattering.",
    "documents": [{"id": "d1", "score": 0.9, "title": "Sky"}, {"id": 7, "score": 0.5}],
    "relevance_score": 0.75,
    "embedding": [0.25, -1, 3.5],
}
CHAT = {
    "model": "m",
    "user": "u1",
    "metadata": {"session_id": "s1"},
    "messages": [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": "ok"},
        {"role": "user", "content": "second"},
    ],
}
CHAT_ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "model": "m-2024",
    "choices": [{"index": 0, "message": {"content": "hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15},
}


def native(question: Any = QUESTION, answer: Any = ANSWER, **changes: Any) -> Features:
    return extract("native", "/query", body(question), body(answer, **changes))


def chat(answer: Body, question: Any = CHAT, profile: str = "auto") -> Features:
    return extract(profile, "/v1/chat/completions", body(question), answer)


def stream(*chunks: Any, ending: bytes = b"data: [DONE]\n\n", line: bytes = b"\n") -> bytes:
    data = b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks) + ending
    return data.replace(b"\n", line)


def test_native_fields_come_from_question_and_answer() -> None:
    assert native() == Features(
        query_id="q-9",
        query_text="why is the sky blue",
        embedding=[0.25, -1.0, 3.5],
        relevance_score=0.75,
        user_id="u1",
        session_id="s1",
        retrieved_ids=["d1", "7"],
        retrieved_scores=[0.9, 0.5],
        retrieved_count=2,
        answer_chars=20,
    )


def test_auto_reads_the_native_shape_on_any_path() -> None:
    assert extract("auto", "/ask", body(QUESTION), body(ANSWER)) == native()


def test_chat_completions() -> None:
    assert chat(body(CHAT_ANSWER)) == Features(
        query_id="chatcmpl-1",
        query_text="second",
        user_id="u1",
        session_id="s1",
        prompt_tokens=12,
        completion_tokens=3,
        model_reported="m-2024",
        finish_reason="stop",
        refused=False,
        answer_chars=2,
    )


@pytest.mark.parametrize("line", [b"\n", b"\r\n", b"\r"])
def test_a_streamed_chat_says_the_same_as_a_whole_one(line: bytes) -> None:
    base = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "m-2024"}
    data = stream(
        {**base, "choices": [{"delta": {"content": "h"}, "finish_reason": None}]},
        {**base, "choices": [{"delta": {"content": "i"}, "finish_reason": None}]},
        {**base, "choices": [{"delta": {}, "finish_reason": "stop"}], "usage": None},
        {**base, "choices": [], "usage": CHAT_ANSWER["usage"]},
        line=line,
    )
    streamed = chat(Body(content_type="text/event-stream; charset=utf-8", data=data))
    assert streamed == chat(body(CHAT_ANSWER))


def test_a_cut_stream_gives_what_came_whole() -> None:
    data = stream({"id": "c1", "choices": []}, ending=b'data: {"id": "c1", "usa')
    found = chat(Body(content_type="text/event-stream", data=data, is_cut=True))
    assert found.query_id == "c1"
    assert found.query_text == "second"
    assert found.missing == ["truncated"]


def test_content_of_several_parts_is_its_texts() -> None:
    parts = [
        {"type": "text", "text": "what is"},
        {"type": "image_url", "image_url": {"url": "data:"}},
        {"type": "text", "text": "this"},
    ]
    question = {"messages": [{"role": "user", "content": parts}]}
    assert chat(body(CHAT_ANSWER), question).query_text == "what is\nthis"


@pytest.mark.parametrize("wire", ["numbers", "base64"])
def test_embeddings_of_one_input(wire: str) -> None:
    vector: Any = [0.5, -0.25]
    if wire == "base64":
        vector = base64.b64encode(struct.pack("<2f", *vector)).decode()
    answer = {"object": "list", "model": "e", "data": [{"embedding": vector, "index": 0}]}
    found = extract("openai", "/v1/embeddings", body({"input": ["one"]}), body(answer))
    assert (found.query_text, found.embedding) == ("one", [0.5, -0.25])
    assert found.missing == []


def test_embeddings_of_many_inputs_are_not_one_query() -> None:
    answer = {"object": "list", "data": [{"embedding": [1.0]}, {"embedding": [2.0]}]}
    found = extract("openai", "/v1/embeddings", body({"input": ["a", "b"]}), body(answer))
    assert (found.query_text, found.embedding) == (None, [])


def test_completions() -> None:
    answer = {**CHAT_ANSWER, "object": "text_completion"}
    assert extract("auto", "/v1/completions", body({"prompt": "say"}), body(answer)).query_text == (
        "say"
    )


CODINGS = {
    "gzip": gzip.compress,
    "X-GZIP": gzip.compress,
    "deflate": zlib.compress,
    "identity": bytes,
    "deflate, gzip": lambda data: gzip.compress(zlib.compress(data)),
}


@pytest.mark.parametrize("coding", CODINGS)
def test_content_codings_are_undone(coding: str) -> None:
    data = CODINGS[coding](json.dumps(ANSWER).encode())
    assert native(answer=data, content_encoding=coding) == native()


def test_deflate_without_its_wrapper_and_gzip_in_two_members() -> None:
    data = json.dumps(ANSWER).encode()
    bare = zlib.compressobj(wbits=-15)
    assert native(answer=bare.compress(data) + bare.flush(), content_encoding="deflate") == native()
    members = gzip.compress(data[:20]) + gzip.compress(data[20:])
    assert native(answer=members, content_encoding="gzip") == native()


UNREADABLE = {
    "truncated": body(json.dumps(ANSWER).encode()[:40], is_cut=True),
    "not_json": body(b"<html>"),
    "unknown_shape": body(b"[1, 2]"),
    "undecodable": body(b"not gzip", content_encoding="gzip"),
    "undecodable ": body(b"\x1b\x00", content_encoding="br"),
    "undecodable  ": body(b"x", content_encoding="gzip, gzip, gzip"),
    "truncated ": body(gzip.compress(json.dumps(ANSWER).encode())[:-12], content_encoding="gzip"),
    "undecodable   ": body(gzip.compress(bytes(MAX_DECODED_BYTES + 1)), content_encoding="gzip"),
    "not_json ": body(b'{"documents": ' + b"[" * 100_000),
    "not_json  ": body(b'{"query_id": "\xff\xfe"}'),
}


@pytest.mark.parametrize("reason", UNREADABLE)
def test_an_answer_that_cannot_be_read_leaves_the_question_s_features(reason: str) -> None:
    found = extract("auto", "/query", body(QUESTION), UNREADABLE[reason])
    assert found.query_text == "why is the sky blue"
    assert found.missing == [reason.strip()]


def test_nothing_known_anywhere_is_an_unknown_shape() -> None:
    found = extract("auto", "/x", body({"a": 1}), body({"b": 2}))
    assert found == Features(missing=["unknown_shape"])


def test_bodies_that_are_absent_are_not_missing() -> None:
    assert extract("auto", "/healthz", Body(), Body()) == Features()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("relevance_score", "high"),
        ("relevance_score", True),
        ("embedding", [1.0, "x"]),
        ("embedding", "abc"),
        ("query_id", ["q"]),
        ("response_time_ms", {}),
    ],
)
def test_a_value_of_the_wrong_kind_is_dropped_and_named(name: str, value: Any) -> None:
    found = native(answer={**ANSWER, name: value})
    assert found.missing == [f"unusable {name}"]
    assert not getattr(found, name)
    assert found.retrieved_ids == ["d1", "7"]


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e999"])
def test_a_number_that_is_not_finite_is_dropped_and_named(number: bytes) -> None:
    """Not JSON by the letter, but Python's own servers send it."""
    answer = b'{"query_id": "q", "relevance_score": ' + number + b', "embedding": [1, ' + number
    found = native(answer=answer + b"]}")
    assert found.query_id == "q"
    assert (found.relevance_score, found.embedding) == (None, [])
    assert found.missing == ["unusable embedding", "unusable relevance_score"]


def test_a_score_outside_its_range_is_left_to_who_knows_the_schema() -> None:
    assert native(answer={**ANSWER, "relevance_score": 7}).relevance_score == 7.0


def test_what_is_longer_than_a_row_takes_is_cut_or_dropped_not_refused() -> None:
    """A long prompt is no reason to lose the row."""
    found = native(
        question={**QUESTION, "query_text": "é" * (MAX_TEXT_CHARS + 1)},
        answer={**ANSWER, "embedding": [0.0] * (MAX_EMBEDDING_LENGTH + 1)},
    )
    assert found.query_text == "é" * MAX_TEXT_CHARS
    assert found.embedding == []
    assert found.missing == ["truncated", "unusable embedding"]


def test_half_a_surrogate_pair_becomes_storable() -> None:
    found = native(question=b'{"query_text": "a\\ud800b"}')
    assert found.query_text is not None
    assert found.query_text.encode() == b"a?b"


@pytest.mark.parametrize(
    ("documents", "ids", "scores", "missing"),
    [
        ([{"id": "a", "score": 1}, {"id": "b"}], ["a", "b"], [], ["unusable retrieved_scores"]),
        ([{"id": "a"}, {"id": "b"}], ["a", "b"], [], []),
        ([{"score": 1}], [], [], ["unusable retrieved_ids"]),
        (["a", "b"], ["a", "b"], [], []),
        ([["a"], "b"], [], [], ["unusable retrieved_ids"]),
        ([], [], [], []),
    ],
)
def test_retrieved_documents(
    documents: Any, ids: list[str], scores: list[float], missing: list[str]
) -> None:
    found = native(answer={**ANSWER, "documents": documents})
    assert (found.retrieved_ids, found.retrieved_scores, found.missing) == (ids, scores, missing)
    assert found.retrieved_count == len(documents)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["messages", "role", "content", "usage", "choices", "data", "embedding", "documents",
             "id", "score", "object", "input", "query_text", "relevance_score", "metadata", "model"]
        ),
        inner,
        max_size=5,
    ),
    max_leaves=20,
)  # fmt: skip


@given(
    profile=st.sampled_from(["auto", "native", "openai"]),
    target=st.sampled_from(["/query", "/v1/chat/completions", "/v1/embeddings?x=1"]),
    question=json_values,
    answer=json_values | st.binary(max_size=50),
    kind=st.sampled_from(["application/json", "text/event-stream"]),
    coding=st.sampled_from(["", "gzip", "deflate", "br"]),
)
def test_whatever_comes_extraction_does_not_fail(
    profile: str, target: str, question: Any, answer: Any, kind: str, coding: str
) -> None:
    """A body is written by strangers; the row must come whatever it holds."""
    found = extract(
        profile,
        target,
        body(question),
        body(answer, content_type=kind, content_encoding=coding),
    )
    for text in (found.query_text, found.query_id, found.model_reported, found.finish_reason):
        assert text is None or text.encode() is not None
    assert all(isinstance(number, float) for number in found.embedding)
