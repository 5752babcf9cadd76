"""What OpenAI's and Hugging Face's own clients send and get, through the gateway, as features of
rows.

Nothing here is written down by hand but answers of endpoints that the demo server does not have.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import huggingface_hub
import openai
import pytest
from aiohttp import web

from gateway import listening
from gateway.proxy import Proxy
from gateway.routing import LivePlan
from gateway.settings import Address, MatchSettings, RouteSettings
from mlops.contracts.plan import RoutePlan, Slot
from mlops.contracts.record import Row
from mlops.serving.app import ModelServer
from mlops.serving.fetching import fetching
from mlops.serving.model import load_model
from mlops.serving.versions import Versions
from mlops.training.linear_adapter import BETTER_VERSION

QUESTION = "How is the standard deviation computed?"
MODEL = "docs-retriever"
RESPONSE = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1_790_000_000,
    "model": MODEL,
    "status": "completed",
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
    "output": [
        {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "By squaring.", "annotations": []}],
        }
    ],
    "usage": {
        "input_tokens": 9,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 3,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 12,
    },
}


COMPLETION = {
    "id": "cmpl-1",
    "object": "text_completion",
    "created": 1_790_000_000,
    "model": MODEL,
    "choices": [{"index": 0, "text": "By squaring.", "finish_reason": "stop", "logprobs": None}],
    "usage": {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12},
}


async def _respond(request: web.Request) -> web.Response:
    if not (await request.json()).get("stream"):
        return web.json_response(RESPONSE)
    begun = {**RESPONSE, "status": "in_progress", "output": [], "usage": None}
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0, "logprobs": []}
    return _events(
        {"type": "response.created", "sequence_number": 0, "response": begun},
        {"type": "response.output_text.delta", "sequence_number": 1, "delta": "By ", **place},
        {"type": "response.output_text.delta", "sequence_number": 2, "delta": "squaring.", **place},
        {"type": "response.completed", "sequence_number": 3, "response": RESPONSE},
    )


async def _complete(request: web.Request) -> web.Response:
    if not (await request.json()).get("stream"):
        return web.json_response(COMPLETION)
    first = {**COMPLETION, "usage": None}
    first["choices"] = [{"index": 0, "text": "By ", "finish_reason": None, "logprobs": None}]
    second = {**first, "choices": [{**COMPLETION["choices"][0], "text": "squaring."}]}  # type: ignore[index]
    return _events(first, second, {**COMPLETION, "choices": []})


def _events(*events: object) -> web.Response:
    text = "".join(f"data: {json.dumps(event)}\n\n" for event in events)
    return web.Response(text=text + "data: [DONE]\n\n", content_type="text/event-stream")


async def _embed(request: web.Request) -> web.Response:
    return web.json_response([[0.5, -1.25, 3.0]])


@pytest.fixture
async def client(harness: Any, versions: dict[str, Path]) -> AsyncIterator[openai.AsyncOpenAI]:
    """In front of a gateway that spools, and the demo server behind it."""
    directory = versions[BETTER_VERSION]
    served = Versions(partial(load_model, corpus_cache=directory.parent), fetching(directory))
    await served.serve_directory(directory)
    app = ModelServer(served).application()
    app.router.add_post("/v1/responses", _respond)
    app.router.add_post("/v1/completions", _complete)
    for path in ("/embed", "/"):
        app.router.add_post(path, _embed)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    stable = Slot(version="1", endpoints=(url,))
    route = RouteSettings(name="rag", model=MODEL, match=MatchSettings(), stable=stable)
    proxy = Proxy([route], harness.writer())
    proxy.apply(LivePlan(RoutePlan(route="rag", salt="s", generation=1, stable=stable), 1e9))
    wanted = Address(host="127.0.0.1", port=0)
    sockets = await listening.listen(wanted, 1)
    await proxy.listen(sockets)
    address = listening.bound(wanted, sockets)
    for each in sockets:
        each.close()  # the proxy accepts from a copy
    base = f"http://127.0.0.1:{address.port}/v1"
    async with openai.AsyncOpenAI(base_url=base, api_key="none", max_retries=0) as opened:
        yield opened
    await proxy.drain(1)
    await runner.cleanup()


async def rows(harness: Any, count: int) -> list[Row]:
    async with harness.recording():
        await harness.until(lambda: len(harness.log.request_ids()) == count)
    return [row for batch in harness.log.rows.values() for row in batch]


async def test_a_chat_whole_and_streamed(harness: Any, client: openai.AsyncOpenAI) -> None:
    asked: Any = {"model": MODEL, "messages": [{"role": "user", "content": QUESTION}], "user": "u"}
    whole = await client.chat.completions.create(**asked)
    text = ""
    stream = await client.chat.completions.create(
        **asked, stream=True, stream_options={"include_usage": True}
    )
    async for event in stream:
        text += (event.choices[0].delta.content or "") if event.choices else ""
    assert whole.usage is not None
    first, second = await rows(harness, 2)
    for row in (first, second):
        assert row.features_missing == ""
        assert (row.query_text, row.user_id, row.model_reported) == (QUESTION, "u", whole.model)
        assert (row.prompt_tokens, row.completion_tokens) == (
            whole.usage.prompt_tokens, whole.usage.completion_tokens,
        )  # fmt: skip
        assert (row.finish_reason, row.refused) == ("stop", False)
        assert row.answer_chars == len(text) == len(whole.choices[0].message.content or "")
    assert first.query_id == whole.id
    assert (first.events, first.first_event_us) == (0, 0)
    assert second.events > 3
    assert 0 < second.first_event_us <= second.latency_us


@pytest.mark.parametrize("encoding", [{}, {"encoding_format": "float"}], ids=["base64", "numbers"])
async def test_an_embedding_as_the_client_asks_for_it(
    harness: Any, client: openai.AsyncOpenAI, encoding: Any
) -> None:
    answer = await client.embeddings.create(model=MODEL, input=QUESTION, **encoding)
    await client.embeddings.create(model=MODEL, input=["a", "b"], **encoding)
    one, many = await rows(harness, 2)
    assert (one.query_text, one.features_missing) == (QUESTION, "")
    assert one.embedding == pytest.approx(answer.data[0].embedding)
    assert one.prompt_tokens == answer.usage.prompt_tokens
    assert (many.query_text, many.embedding, many.features_missing) == (None, [], "")


async def test_a_response(harness: Any, client: openai.AsyncOpenAI) -> None:
    answer = await client.responses.create(model=MODEL, input=QUESTION)
    (row,) = await rows(harness, 1)
    assert (row.query_text, row.query_id) == (QUESTION, answer.id)
    assert (row.answer_chars, row.refused) == (len(answer.output_text), False)
    assert (row.prompt_tokens, row.completion_tokens) == (9, 3)


async def test_a_response_that_is_streamed(harness: Any, client: openai.AsyncOpenAI) -> None:
    text = ""
    async for event in await client.responses.create(model=MODEL, input=QUESTION, stream=True):
        text += event.delta if event.type == "response.output_text.delta" else ""
    (row,) = await rows(harness, 1)
    assert text == "By squaring."
    assert (row.query_text, row.query_id, row.features_missing) == (QUESTION, "resp_1", "")
    assert (row.answer_chars, row.refused, row.events) == (len(text), False, 5)
    assert (row.prompt_tokens, row.completion_tokens) == (9, 3)


async def test_a_completion_whole_and_streamed(harness: Any, client: openai.AsyncOpenAI) -> None:
    asked: Any = {"model": MODEL, "prompt": QUESTION, "user": "u"}
    await client.completions.create(**asked)
    text = ""
    async for event in await client.completions.create(**asked, stream=True):
        text += event.choices[0].text if event.choices else ""
    assert text == "By squaring."
    for row in await rows(harness, 2):
        assert (row.query_text, row.query_id, row.user_id) == (QUESTION, "cmpl-1", "u")
        assert (row.answer_chars, row.finish_reason, row.features_missing) == (12, "stop", "")
        assert (row.prompt_tokens, row.completion_tokens) == (9, 3)


@pytest.mark.parametrize("path", ["/embed", "/"])
async def test_an_embedding_for_hugging_face_s_client(
    harness: Any, client: openai.AsyncOpenAI, path: str
) -> None:
    """It asks servers of Text Embeddings Inference, at the address that it is given."""
    address = str(client.base_url).removesuffix("/v1/") + path
    async with huggingface_hub.AsyncInferenceClient(address) as asking:
        vector = await asking.feature_extraction(QUESTION)
    (row,) = await rows(harness, 1)
    assert vector.tolist() == [[0.5, -1.25, 3.0]]
    assert (row.query_text, row.embedding, row.features_missing) == (
        QUESTION,
        vector.tolist()[0],
        "",
    )


async def test_a_refusal_of_the_server_is_a_row(harness: Any, client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        await client.embeddings.create(model="another", input=QUESTION)
    (row,) = await rows(harness, 1)
    assert (row.status, row.outcome, row.query_text) == (404, "client_error", QUESTION)
