from __future__ import annotations

import asyncio

from aiohttp.test_utils import TestClient
from prometheus_client.parser import text_string_to_metric_families

from mlops.training.linear_adapter import BASE_VERSION

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


async def samples(client: TestClient) -> Samples:
    answer = await client.get("/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(await answer.text())
        for sample in family.samples
    }


def value(found: Samples, name: str, **labels: str) -> float:
    return found[name, frozenset(labels.items())]


async def test_requests_batches_and_loads_are_counted(client: TestClient) -> None:
    body = {"model": "docs-retriever", "input": ["one", "two"]}
    answers = await asyncio.gather(*(client.post("/v1/embeddings", json=body) for _ in range(8)))
    assert {answer.status for answer in answers} == {200}
    await client.post("/v1/embeddings", json={"model": "other", "input": "x"})
    await client.post("/nowhere/at/all")
    await client.post("/admin/models", json={"version": BASE_VERSION})
    await client.post("/admin/models", json={"version": "9.9.9"})

    found = await samples(client)

    post = {"http_request_method": "POST", "http_route": "/v1/embeddings"}
    seconds = "http_server_request_duration_seconds"
    assert value(found, f"{seconds}_count", **post, http_response_status_code="200") == 8
    assert value(found, f"{seconds}_count", **post, http_response_status_code="404") == 1
    nowhere = {"http_request_method": "POST", "http_route": ""}
    assert value(found, f"{seconds}_count", **nowhere, http_response_status_code="404") == 1
    operation = {"gen_ai_operation_name": "embeddings", "gen_ai_request_model": "docs-retriever"}
    seconds = "gen_ai_server_request_duration_seconds"
    assert value(found, f"{seconds}_count", **operation, error_type="") == 8
    assert value(found, f"{seconds}_count", **operation, error_type="404") == 1
    assert value(found, "http_server_active_requests") == 1  # this very one
    assert value(found, "model_server_batch_texts_sum") == 16
    assert value(found, "model_server_batched_requests_total") == 8
    assert value(found, "model_server_waiting_texts") == 0
    loads = "model_server_model_load_duration_seconds_count"
    assert value(found, loads, result="ok") == 1
    assert value(found, loads, result="failed") == 1
    serving = {"model": "docs-retriever", "version": BASE_VERSION}
    assert value(found, "model_server_serving_info", **serving) == 1
    assert value(found, "model_server_loaded_models") == 2
