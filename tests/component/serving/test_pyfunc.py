"""Models that MLflow has saved, served by us: its own scoring protocol, and embeddings."""

from __future__ import annotations

import warnings
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from aiohttp.test_utils import TestClient, TestServer

from mlops.serving.app import ModelServer
from mlops.serving.fetching import load_version
from mlops.serving.model import BadModel
from mlops.serving.versions import Versions

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what MLflow says of its own type hints
    import mlflow.pyfunc
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema

pytestmark = pytest.mark.filterwarnings("ignore")
"""MLflow's advice on how models are written, and of packages that are not pinned."""

TEXTS = ModelSignature(inputs=Schema([ColSpec(DataType.string, "text")]))
NUMBERS = ModelSignature(
    inputs=Schema([ColSpec(DataType.double, "a"), ColSpec(DataType.double, "b")])
)


class Counting(mlflow.pyfunc.PythonModel):
    """Vectors of three numbers that a reader can check."""

    def predict(self, context, model_input, params=None):
        texts = model_input["text"]
        return np.array([[len(text), text.count("a"), text.count(" ")] for text in texts])


class Summing(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return (model_input["a"] + model_input["b"]).to_numpy()


class Broken(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        raise RuntimeError("weights are missing")


def saved(folder: Path, model: Any, signature: ModelSignature | None, **more: Any) -> Path:
    mlflow.pyfunc.save_model(
        folder, python_model=model, signature=signature, pip_requirements=[], **more
    )
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("pyfunc")
    return {
        "1.0.0": saved(base / "counter" / "1.0.0", Counting(), TEXTS),
        "2.0.0": saved(base / "counter" / "2.0.0", Summing(), NUMBERS),
    }


@pytest.fixture
async def client(folders: dict[str, Path]) -> AsyncIterator[TestClient]:
    served = Versions(
        partial(load_version, corpus_cache=Path("unused")), lambda _, version: folders[version]
    )
    await served.serve_directory(folders["1.0.0"])
    async with TestClient(TestServer(ModelServer(served).application())) as client:
        yield client


async def test_a_model_of_texts_answers_in_openais_shape(client: TestClient) -> None:
    body = {"model": "counter", "input": ["a cat", "no"]}
    answer = await (await client.post("/v1/embeddings", json=body)).json()
    assert [item["embedding"] for item in answer["data"]] == [[5, 2, 1], [2, 0, 0]]
    assert answer["model"] == "counter-1.0.0"
    names = (await (await client.get("/v1/models")).json())["data"]
    assert [name["id"] for name in names] == ["counter", "counter-1.0.0"]


@pytest.mark.parametrize(
    "body",
    [
        {"dataframe_split": {"columns": ["text"], "data": [["a cat"], ["no"]]}},
        {"dataframe_records": [{"text": "a cat"}, {"text": "no"}]},
        {"inputs": {"text": ["a cat", "no"]}},
    ],
)
async def test_every_form_of_mlflows_protocol_is_read(client: TestClient, body: object) -> None:
    answer = await client.post("/invocations", json=body)
    assert answer.status == 200
    assert await answer.json() == {"predictions": [[5, 2, 1], [2, 0, 0]]}


async def test_csv_is_read_and_other_types_are_refused_as_mlflow_does(client: TestClient) -> None:
    csv = await client.post("/invocations", data="text\nno\n", headers={"Content-Type": "text/csv"})
    assert await csv.json() == {"predictions": [[2, 0, 0]]}
    other = await client.post("/invocations", data="x", headers={"Content-Type": "text/plain"})
    assert other.status == 415
    wrong = await client.post("/invocations", json={"dataframe_records": [{"txet": "no"}]})
    assert wrong.status == 400
    assert (await wrong.json())["error_code"] == "INVALID_PARAMETER_VALUE"
    assert (await client.get("/ping")).status == 200


async def test_a_model_of_numbers_takes_over_and_is_served_by_the_protocol_alone(
    client: TestClient,
) -> None:
    loaded = await client.post("/admin/models", json={"version": "2.0.0"})
    assert await loaded.json() == {"model": "counter", "version": "2.0.0"}

    rows = pd.DataFrame({"a": [1.0, 2.0], "b": [0.5, 0.5]})
    answer = await client.post("/invocations", json={"dataframe_split": rows.to_dict("split")})
    refused = await client.post("/v1/embeddings", json={"model": "counter", "input": "x"})

    assert await answer.json() == {"predictions": [1.5, 2.5]}
    assert refused.status == 404
    assert "POST /invocations serves it" in (await refused.json())["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path"),
    [("post", "/query"), ("post", "/v1/chat/completions"), ("get", "/v1/embedding-space")],
)
async def test_what_only_a_retriever_has_is_refused_with_the_reason(
    client: TestClient, method: str, path: str
) -> None:
    answer = await client.request(method, path, json={"query_text": "x"})
    assert answer.status == 404
    assert "counter-1.0.0 has no" in await answer.text()


async def test_a_model_that_fails_on_its_example_is_not_served(
    client: TestClient, folders: dict[str, Path], tmp_path: Path
) -> None:
    example = pd.DataFrame({"text": ["a cat"]})
    folders["3.0.0"] = saved(tmp_path / "counter" / "3.0.0", Counting(), TEXTS)
    folders["3.0.1"] = saved(tmp_path / "counter" / "3.0.1", Broken(), TEXTS, input_example=example)

    assert (await client.post("/admin/models", json={"version": "3.0.0"})).status == 200
    refused = await client.post("/admin/models", json={"version": "3.0.1"})

    assert refused.status == 409
    assert "weights are missing" in await refused.text()
    assert (await (await client.get("/healthz")).json())["version"] == "3.0.0"


async def test_a_model_that_fails_later_says_so_and_goes_on(
    client: TestClient, folders: dict[str, Path], tmp_path: Path
) -> None:
    folders["4.0.0"] = saved(tmp_path / "counter" / "4.0.0", Broken(), None)
    assert (await client.post("/admin/models", json={"version": "4.0.0"})).status == 200

    answer = await client.post("/v1/embeddings", json={"model": "counter", "input": "x"})

    assert answer.status == 500
    error = (await answer.json())["error"]
    assert error["code"] == "model_failed"
    assert "RuntimeError" in error["message"]
    assert (await client.get("/healthz")).status == 200


def test_a_folder_that_mlflow_cannot_load_is_refused(tmp_path: Path) -> None:
    (tmp_path / "MLmodel").write_text("flavors: {}\n", encoding="utf-8")
    with pytest.raises(BadModel, match="cannot be loaded by MLflow"):
        load_version(tmp_path, tmp_path)
