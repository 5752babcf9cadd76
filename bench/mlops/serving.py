"""The model server: what batching brings, and whether a swap of versions drops a request."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import requests

from bench.report import Measured
from mlops.local.processes import Command, start, stop
from mlops.training.linear_adapter import BASE_VERSION, BETTER_VERSION, prepare_demo_models

CLIENTS: Final = 64
SECONDS: Final = 4.0
ROUNDS: Final = 3
"""Of each, in turn; the best counts, as the machine is not ours alone."""
SWAPS: Final = 40
TEXT: Final = "What is the standard deviation of an array along an axis?"
RETRIEVER: Final = "docs-retriever"


def embeddings(directory: Path) -> list[Measured]:
    """Embeddings a second from 64 clients, with batches and one by one."""
    rows = []
    for what, folder, name, goal in (
        ("a model of MLflow's", _logged(directory / "team" / "1.0.0"), "team", True),
        ("the retriever", prepare_demo_models(directory)[BETTER_VERSION], RETRIEVER, False),
    ):
        best = {"64": 0.0, "1": 0.0}
        refused = 0.0
        for _ in range(ROUNDS):
            for texts, before in best.items():
                with server(folder, directory, "--batch-texts", texts) as url:
                    best[texts] = max(before, load(url, name)["per_s"])
                    refused = max(refused, load(url, "nobody's")["answers_per_s"])
        gain = best["64"] / best["1"]
        rows.append(
            Measured(
                name=f"batches beside one by one, {CLIENTS} clients: {what}",
                value=gain,
                unit="times the embeddings/s",
                goal=">= 3" if goal else "",
                holds=gain >= 3 or not goal,
                peers={
                    "batches/s": best["64"],
                    "one by one/s": best["1"],
                    "HTTP and JSON without a model/s": refused,
                },
            )
        )
    return rows


def swaps(directory: Path) -> list[Measured]:
    """Requests that failed while versions take over from each other."""
    versions = prepare_demo_models(directory)
    registered = directory / "registered" / RETRIEVER
    registered.mkdir(parents=True)
    for version in (BASE_VERSION, BETTER_VERSION):
        (registered / version).symlink_to(versions[version])
    with server(versions[BASE_VERSION], directory) as url:
        command = [sys.executable, "-m", "bench.mlops.load", _port(url), str(CLIENTS)]
        body = json.dumps({"model": RETRIEVER, "input": TEXT})
        with subprocess.Popen([*command, "8", body], stdout=subprocess.PIPE) as clients:
            for number in range(SWAPS):
                version = (BETTER_VERSION, BASE_VERSION)[number % 2]
                answer = requests.post(f"{url}/admin/models", json={"version": version}, timeout=30)
                answer.raise_for_status()
            out, _ = clients.communicate()
    found = json.loads(out)
    return [
        Measured(
            name=f"failed requests over {SWAPS} swaps of versions, {CLIENTS} clients",
            value=found["failed"],
            unit="requests",
            goal="0",
            holds=found["failed"] == 0 and found["answered"] > 0,
            peers={"answered": found["answered"]},
        )
    ]


@contextmanager
def server(model: Path, directory: Path, *arguments: str) -> Iterator[str]:
    """A model server as it is installed; its address."""
    root = str(Path(__file__).parents[2])
    command = Command(
        name="model",
        arguments=[
            "mlops.serving",
            f"--model={model}",
            "--port=0",
            f"--corpus-cache={directory}",
            f"--registered={directory / 'registered'}",
            *arguments,
        ],
        environment={**os.environ, "PYTHONPATH": root},
    )
    started = start(command, directory)
    try:
        yield started.urls[0]
    finally:
        stop([started], lambda: os.waitpid(started.pid, os.WNOHANG))


def load(url: str, name: str) -> dict[str, float]:
    body = json.dumps({"model": name, "input": TEXT})
    command = [sys.executable, "-m", "bench.mlops.load", _port(url), str(CLIENTS), str(SECONDS)]
    done = subprocess.run([*command, body], capture_output=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _port(url: str) -> str:
    return url.rpartition(":")[2]


def _logged(folder: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's advice on how models are written
        import mlflow.pyfunc  # noqa: PLC0415
        from mlflow.models import ModelSignature  # noqa: PLC0415
        from mlflow.types import ColSpec, DataType, Schema  # noqa: PLC0415

        texts: Sequence[ColSpec] = [ColSpec(DataType.string, "text")]
        mlflow.pyfunc.save_model(
            folder,
            python_model=Path(__file__).with_name("pyfunc_code.py"),
            signature=ModelSignature(inputs=Schema(list(texts))),
            pip_requirements=[],
        )
    return folder
