from __future__ import annotations

import base64
import io
import json

import numpy as np
import pytest
from aiohttp.test_utils import TestClient, TestServer

from mlops.serving.app import ModelServer
from mlops.serving.bodies import MAX_BODY_BYTES
from mlops.serving.corpus import held_out_queries, reciprocal_rank
from mlops.serving.versions import Versions
from mlops.training.linear_adapter import Material

QUESTION = "Compute the standard deviation along the specified axis."
CHAT = {"model": "docs-retriever", "messages": [{"role": "user", "content": QUESTION}]}


async def test_a_query_finds_documents_and_quotes_the_best(client: TestClient) -> None:
    body = {"query_text": QUESTION, "user_id": "u", "session_id": "s", "top_k": 3}
    answer = await (await client.post("/query", json=body)).json()
    scores = [document["score"] for document in answer["documents"]]
    assert len(scores) == 3
    assert scores == sorted(scores, reverse=True)
    assert any("std" in document["id"] for document in answer["documents"])
    best = answer["documents"][0]
    assert set(best) == {"id", "title", "score", "text"}
    assert answer["answer"].startswith(f"{best['id']}: {best['text'][:100]}")
    assert answer["relevance_score"] == pytest.approx(best["score"])
    assert (answer["model"], answer["version"]) == ("docs-retriever", "1.1.0")
    assert 0 < answer["response_time_ms"] < 1_000
    assert "embedding" not in answer


async def test_a_query_returns_its_unit_embedding_when_asked(client: TestClient) -> None:
    body = {"query_text": QUESTION, "include_embedding": True}
    first = await (await client.post("/query", json=body)).json()
    second = await (await client.post("/query", json=body)).json()
    assert len(first["embedding"]) == 256
    assert np.linalg.norm(first["embedding"]) == pytest.approx(1, abs=1e-5)
    assert first["embedding"] == second["embedding"]
    assert first["query_id"] != second["query_id"]


async def test_the_embedding_space_is_declared_and_its_canaries_come_out_the_same(
    client: TestClient,
) -> None:
    declared = await (await client.get("/v1/embedding-space")).json()
    assert declared["dimension"] == declared["index"]["dimension"] == 256
    assert declared["model"] == declared["index"]["model"]
    canaries = declared["index"]["canaries"]
    assert len(canaries) == 3
    body = {"model": declared["id"], "input": [canary["text"] for canary in canaries]}
    embedded = await (await client.post("/v1/embeddings", json=body)).json()
    for canary, found in zip(canaries, embedded["data"], strict=True):
        assert np.dot(canary["vector"], found["embedding"]) > 0.999


async def test_text_without_meaning_is_answered_within_bounds(client: TestClient) -> None:
    for text in ("\u200b\u200b", "🦜" * 4_000, "\x00"):
        response = await client.post("/query", json={"query_text": text})
        assert response.status == 200
        assert 0 <= (await response.json())["relevance_score"] <= 1


async def test_held_out_queries_find_their_document(client: TestClient, material: Material) -> None:
    ranks = []
    for text, document_id in held_out_queries(material.corpus)[:150]:
        answer = await (await client.post("/query", json={"query_text": text, "top_k": 10})).json()
        ranks.append(reciprocal_rank(answer["documents"], document_id))
    assert np.mean(ranks) > 0.4


async def test_embeddings_have_openais_shape(client: TestClient) -> None:
    body = {"model": "docs-retriever", "input": [QUESTION, "other"]}
    answer = await (await client.post("/v1/embeddings", json=body)).json()
    assert (answer["object"], answer["model"]) == ("list", "docs-retriever-1.1.0")
    assert [item["index"] for item in answer["data"]] == [0, 1]
    assert {item["object"] for item in answer["data"]} == {"embedding"}
    assert answer["usage"]["prompt_tokens"] == answer["usage"]["total_tokens"] > 5
    packed = await (
        await client.post("/v1/embeddings", json={**body, "encoding_format": "base64"})
    ).json()
    for plain, coded in zip(answer["data"], packed["data"], strict=True):
        numbers = np.frombuffer(base64.b64decode(coded["embedding"]), dtype="<f4")
        assert numbers.tolist() == pytest.approx(plain["embedding"], abs=1e-6)
    asked = {**body, "input_type": "query"}
    as_query = await (await client.post("/v1/embeddings", json=asked)).json()
    query = await client.post("/query", json={"query_text": QUESTION, "include_embedding": True})
    assert as_query["data"][0]["embedding"] == (await query.json())["embedding"]
    assert as_query["data"][0]["embedding"] != answer["data"][0]["embedding"]


async def test_a_chat_has_openais_shape_and_counts_tokens(client: TestClient) -> None:
    answer = await (await client.post("/v1/chat/completions", json=CHAT)).json()
    (choice,) = answer["choices"]
    assert answer["object"] == "chat.completion"
    assert answer["id"].startswith("chatcmpl-")
    assert choice["message"]["role"] == "assistant"
    assert "standard deviation" in choice["message"]["content"]
    assert choice["finish_reason"] == "stop"
    usage = answer["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


async def test_a_limit_of_tokens_cuts_the_answer(client: TestClient) -> None:
    answer = await (
        await client.post("/v1/chat/completions", json={**CHAT, "max_tokens": 40})
    ).json()
    assert answer["choices"][0]["finish_reason"] == "length"
    assert 0 < answer["usage"]["completion_tokens"] <= 40


async def stream_of(client: TestClient, body: dict) -> list[str]:
    response = await client.post("/v1/chat/completions", json=body)
    assert response.headers["Content-Type"] == "text/event-stream"
    events = (await response.text()).split("\n\n")
    assert events.pop() == ""
    assert all(event.startswith("data: ") for event in events)
    return [event.removeprefix("data: ") for event in events]


async def test_a_stream_says_the_same_as_the_whole_answer(client: TestClient) -> None:
    whole = await (await client.post("/v1/chat/completions", json=CHAT)).json()
    asked = {**CHAT, "stream": True, "stream_options": {"include_usage": True}}
    *events, done = await stream_of(client, asked)
    assert done == "[DONE]"
    *chunks, usage = map(json.loads, events)
    assert len(chunks) > 5
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk["id"] for chunk in chunks}) == 1
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert deltas[0]["role"] == "assistant"
    text = "".join(delta.get("content", "") for delta in deltas)
    assert text == whole["choices"][0]["message"]["content"]
    reasons = [chunk["choices"][0]["finish_reason"] for chunk in chunks]
    assert reasons == [None] * (len(chunks) - 1) + ["stop"]
    assert (usage["choices"], usage["usage"]) == ([], whole["usage"])


async def test_a_stream_carries_usage_only_when_asked(client: TestClient) -> None:
    *events, done = await stream_of(client, {**CHAT, "stream": True})
    assert done == "[DONE]"
    assert not any("usage" in json.loads(event) for event in events)


async def test_models_are_listed_by_name_and_by_version(client: TestClient) -> None:
    answer = await (await client.get("/v1/models")).json()
    assert [item["id"] for item in answer["data"]] == ["docs-retriever", "docs-retriever-1.1.0"]


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("/v1/embeddings", {"model": "gpt", "input": "x"}, 404, "'gpt'"),
        ("/v1/chat/completions", {**CHAT, "model": "gpt"}, 404, "'gpt'"),
        ("/v1/embeddings", {"model": "docs-retriever", "input": "x", "dimensions": 3}, 400, "256"),
        ("/v1/chat/completions", {"model": "m"}, 400, "messages"),
        ("/v1/nothing", {}, 404, "/v1/nothing"),
        ("/v1/models", {}, 405, "GET"),
        ("/v1/embeddings", {"input": "x" * MAX_BODY_BYTES}, 413, str(MAX_BODY_BYTES)),
    ],
)
async def test_refusals_under_v1_have_openais_shape(
    client: TestClient, path: str, body: dict, status: int, said: str
) -> None:
    response = await client.post(path, data=io.BytesIO(json.dumps(body).encode()))
    error = (await response.json())["error"]
    assert response.status == status
    assert error["type"] == "invalid_request_error"
    assert said in error["message"]


@pytest.mark.parametrize(
    ("content", "status"), [(b"{", 400), (b'{"query_text": ""}', 400), (b" " * 2_000_000, 413)]
)
async def test_refusals_of_queries_are_json(
    client: TestClient, content: bytes, status: int
) -> None:
    response = await client.post("/query", data=io.BytesIO(content))
    body = await response.json()
    assert response.status == status
    assert set(body) == {"error", "code"}


async def test_nothing_is_answered_before_the_model_is_loaded(served: Versions) -> None:
    served.serving = None
    async with TestClient(TestServer(ModelServer(served).application())) as client:
        assert (await client.get("/healthz")).status == 503
        assert (await client.post("/query", json={"query_text": "x"})).status == 503
        response = await client.post("/v1/embeddings", json={"model": "m", "input": "x"})
        assert response.status == 503
        assert (await response.json())["error"]["type"] == "server_error"


async def test_health_names_the_version(client: TestClient) -> None:
    response = await client.get("/healthz")
    assert response.status == 200
    assert (await response.json())["version"] == "1.1.0"
