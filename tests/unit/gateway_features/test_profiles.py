"""The shapes of servers that are not OpenAI's, and pointers to where anything stands."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.features.extract import extract
from gateway.features.model import Body, Features
from gateway.features.pointers import pointer_of


def body(value: Any, **changes: Any) -> Body:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return Body(**{"content_type": "application/json", "data": data, **changes})


def stream(*events: Any) -> Body:
    data = b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)
    return Body(content_type="text/event-stream", data=data)


# ---- OpenAI's responses -----------------------------------------------------------------------

RESPONSE = {
    "id": "resp_1",
    "object": "response",
    "model": "m-1",
    "status": "completed",
    "output": [
        {"type": "reasoning", "summary": []},
        {"type": "message", "content": [{"type": "output_text", "text": "Hello"}]},
    ],
    "usage": {"input_tokens": 7, "output_tokens": 2},
}
RESPONSE_FEATURES = Features(
    query_id="resp_1",
    query_text="hi",
    prompt_tokens=7,
    completion_tokens=2,
    model_reported="m-1",
    finish_reason="completed",
    refused=False,
    answer_chars=5,
)


@pytest.mark.parametrize(
    "asked",
    [
        {"input": "hi"},
        {"input": [{"role": "user", "content": "hi"}]},
        {"input": [{"role": "user", "content": [{"type": "input_text", "text": "hi"}]}]},
    ],
)
def test_a_response_is_read_however_it_was_asked_for(asked: Any) -> None:
    assert extract("auto", "/v1/responses", body(asked), body(RESPONSE)) == RESPONSE_FEATURES


def test_a_streamed_response_says_the_same_at_its_end() -> None:
    begun = {**RESPONSE, "status": "in_progress", "output": [], "usage": None}
    answer = stream(
        {"type": "response.created", "response": begun},
        {"type": "response.output_text.delta", "delta": "Hel", "item_id": "x"},
        {"type": "response.completed", "response": RESPONSE},
    )
    assert extract("auto", "/v1/responses", body({"input": "hi"}), answer) == RESPONSE_FEATURES


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"output": [{"type": "message", "content": [{"type": "refusal", "refusal": "No"}]}]},
         "completed"),
        ({"status": "incomplete", "incomplete_details": {"reason": "content_filter"}},
         "content_filter"),
    ],
)  # fmt: skip
def test_a_refused_response(changes: Any, reason: str) -> None:
    found = extract("openai", "/v1/responses", body({"input": "hi"}), body({**RESPONSE, **changes}))
    assert (found.refused, found.finish_reason) == (True, reason)


@pytest.mark.parametrize(
    ("choice", "refused", "chars"),
    [
        ({"message": {"content": "ok"}, "finish_reason": "stop"}, False, 2),
        (
            {"message": {"content": None, "refusal": "I will not"}, "finish_reason": "stop"},
            True,
            10,
        ),
        ({"message": {"content": "a"}, "finish_reason": "content_filter"}, True, 1),
        ({"message": {"content": "ok"}, "finish_reason": None}, None, 2),
        ({"text": "said", "finish_reason": "length"}, False, 4),
    ],
)
def test_refusals_of_chats(choice: Any, refused: bool | None, chars: int) -> None:
    answer = {"id": "c", "object": "chat.completion", "choices": [{"index": 0, **choice}]}
    found = extract("openai", "/v1/chat/completions", body({"messages": []}), body(answer))
    assert (found.refused, found.answer_chars) == (refused, chars)


def test_of_several_answers_the_first_is_read() -> None:
    def piece(index: int, content: str, reason: str | None = None) -> Any:
        choice = {"index": index, "delta": {"content": content}, "finish_reason": reason}
        return {"object": "chat.completion.chunk", "choices": [choice]}

    answer = stream(
        piece(1, "long long"), piece(0, "a"), piece(0, "b", "stop"), piece(1, "", "length")
    )
    found = extract("auto", "/v1/chat/completions", body({"messages": []}), answer)
    assert (found.answer_chars, found.finish_reason) == (2, "stop")


def test_documents_beside_a_chat_answer_are_retrieved_ones() -> None:
    answer = {"object": "chat.completion", "choices": [], "documents": []}
    found = extract("auto", "/v1/chat/completions", body({"messages": []}), body(answer))
    assert found.retrieved_count == 0


def test_nothing_said_of_retrieval_is_not_an_empty_one() -> None:
    assert extract("native", "/q", body({"query_text": "a"}), body({})).retrieved_count is None


# ---- KServe -----------------------------------------------------------------------------------


def tensor(name: str, kind: str, shape: list[int], data: Any) -> Any:
    return {"name": name, "datatype": kind, "shape": shape, "data": data}


def test_tensors_are_features_by_their_names() -> None:
    asked = {
        "id": "r1",
        "inputs": [
            tensor("query_text", "BYTES", [1], ["why"]),
            tensor("user_id", "BYTES", [1, 1], [["u1"]]),
            tensor("top_k", "INT32", [1], [2]),
        ],
    }
    answered = {
        "id": "r1",
        "model_name": "rag",
        "model_version": "3",
        "outputs": [
            tensor("embedding", "FP32", [1, 2], [[0.5, 1]]),
            tensor("relevance_score", "FP64", [1], [0.75]),
            tensor("retrieved_ids", "BYTES", [2], ["a", "b"]),
            tensor("retrieved_scores", "FP32", [2], [0.9, 0.1]),
        ],
    }
    assert extract("auto", "/v2/models/rag/infer", body(asked), body(answered)) == Features(
        query_id="r1",
        query_text="why",
        user_id="u1",
        embedding=[0.5, 1.0],
        relevance_score=0.75,
        retrieved_ids=["a", "b"],
        retrieved_scores=[0.9, 0.1],
        retrieved_count=2,
        model_reported="rag:3",
    )


def test_the_only_text_and_the_only_vector_need_no_names() -> None:
    asked = {"inputs": [tensor("TEXT", "BYTES", [1, 1], ["why"])]}
    answered = {"model_name": "e", "outputs": [tensor("out", "FP32", [1, 2], [0.5, 1.5])]}
    found = extract("kserve-v2", "/v2/models/e/infer", body(asked), body(answered))
    assert (found.query_text, found.embedding, found.model_reported) == ("why", [0.5, 1.5], "e")


@pytest.mark.parametrize(
    ("outputs", "missing"),
    [
        ([tensor("embedding", "FP32", [1, 1], ["x"])], ["unusable embedding"]),
        ([tensor("relevance_score", "FP32", [2], [1, 2])], ["unusable relevance_score"]),
        ([tensor("a", "FP32", [2, 1], [1, 2])], []),
        ([tensor("a", "FP32", [1, 1], [1]), tensor("b", "FP32", [1, 1], [1])], []),
        ([{"name": "embedding"}], []),
        ("x", []),
    ],
)
def test_tensors_of_another_kind_are_named_or_left(outputs: Any, missing: list[str]) -> None:
    answered = {"model_name": "e", "outputs": outputs}
    found = extract("kserve-v2", "/v2/models/e/infer", body({"inputs": []}), body(answered))
    assert (found.embedding, found.relevance_score, found.missing) == ([], None, missing)


def test_tensors_in_binary_cannot_be_read() -> None:
    data = body(b'{"model_name": "e", "outputs": []}\x00\x01\x02')
    found = extract("auto", "/v2/models/e/infer", body({"inputs": []}), data)
    assert found.missing == ["not_json"]


# ---- TEI --------------------------------------------------------------------------------------


@pytest.mark.parametrize("asked", ["why", ["why"]])
def test_an_embedding_of_one_text(asked: Any) -> None:
    found = extract("auto", "/embed", body({"inputs": asked}), body([[0.5, -1]]))
    assert found == Features(query_text="why", embedding=[0.5, -1.0])


def test_embeddings_of_many_texts_are_not_one_query() -> None:
    found = extract("tei", "/embed", body({"inputs": ["a", "b"]}), body([[1.0], [2.0]]))
    assert found == Features()


def test_a_reranking_is_a_retrieval() -> None:
    answer = [{"index": 1, "score": 0.9}, {"index": 0, "score": 0.1}]
    asked = {"query": "why", "texts": ["a", "b"]}
    assert extract("auto", "/rerank", body(asked), body(answer)) == Features(
        query_text="why",
        retrieved_ids=["1", "0"],
        retrieved_scores=[0.9, 0.1],
        retrieved_count=2,
    )


def test_an_error_of_the_server_leaves_the_question() -> None:
    error = {"error": "overloaded", "error_type": "Overloaded"}
    found = extract("auto", "/rerank", body({"query": "why", "texts": ["a"]}), body(error))
    assert (found.query_text, found.missing) == ("why", ["unknown_shape"])


# ---- pointers ---------------------------------------------------------------------------------


def pointed(asked: Any, answered: Body, profile: str = "auto", **where: str) -> Features:
    pointers = [pointer_of(feature, text) for feature, text in where.items()]
    return extract(profile, "/x", body(asked), answered, pointers)


def test_features_stand_where_the_pointers_say() -> None:
    found = pointed(
        {"input": ["why", "not"], "meta": {"a/b": {"who": 7}}},
        body({"hits": [{"id": "d", "score": 0.5}], "score": 0.25, "n": 3}),
        query_text="/input/0",
        user_id="request:/meta/a~1b/who",
        relevance_score="/score",
        retrieved="answer:/hits",
        completion_tokens="answer:/n",
        session_id="answer:/meta",
    )
    assert found == Features(
        query_text="why",
        user_id="7",
        relevance_score=0.25,
        retrieved_ids=["d"],
        retrieved_scores=[0.5],
        retrieved_count=1,
        completion_tokens=3,
    )


def test_a_pointer_goes_before_the_profile_and_falls_back_on_it() -> None:
    asked = {"query_text": "profile", "text": "pointer"}
    assert pointed(asked, body({}), query_text="/text").query_text == "pointer"
    assert pointed(asked, body({}), query_text="/nowhere").query_text == "profile"


def test_of_a_stream_the_last_event_that_has_it_is_taken() -> None:
    answer = stream({"a": 0.1}, {"a": 0.2}, {"b": 1})
    assert pointed({"query_text": "q"}, answer, relevance_score="/a").relevance_score == 0.2


def test_what_is_pointed_at_and_of_the_wrong_kind_is_named() -> None:
    found = pointed({"q": {}}, body({"r": "yes"}), query_text="/q", refused="/r")
    assert found.missing == ["unknown_shape", "unusable query_text", "unusable refused"]


@pytest.mark.parametrize("text", ["input", "answer:hits", "", "asked:/x"])
def test_what_is_no_pointer_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"query_text: expected a JSON pointer such as"):
        pointer_of("query_text", text)


def test_a_feature_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected one of answer_chars, .*, got 'colour'"):
        pointer_of("colour", "/x")
