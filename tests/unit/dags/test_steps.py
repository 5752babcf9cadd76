"""The entry of a step: what it answers to requests that are wrong."""

from __future__ import annotations

import io
import json
import sys

import msgspec
import pytest

from dags import steps
from dags.steps import main
from mlops.pipelines.request import RetrainingRequest, plan_of
from mlops.training.documents import Documents
from mlops.training.outcomes import Step, Stopped, StopReason
from mlops.training.partition import Partition


def answer(
    arguments: list[str], request: object, monkeypatch: pytest.MonkeyPatch, capsys
) -> tuple[int, str]:
    stdin = io.TextIOWrapper(io.BytesIO(json.dumps(request).encode()))
    monkeypatch.setattr(sys, "stdin", stdin)
    code = main(arguments)
    return code, json.loads(capsys.readouterr().out)["sentence"]


REQUEST = {
    "partition": "p",
    "since": "2026-01-01T00:00:00Z",
    "until": "2026-01-02T00:00:00Z",
    "as_of": "2026-01-02T00:00:00Z",
}


@pytest.mark.parametrize(
    ("arguments", "request_", "expected"),
    [
        (["retrain"], {}, "expected a pipeline and its step"),
        (["retrain", "guess"], {}, "expected a pipeline and its step"),
        (["retrain", "train"], {"partition": "p"}, "missing required field"),
        (["retrain", "train"], REQUEST | {"sed": 3}, "unknown field `sed`"),
        (["retrain", "train"], REQUEST | {"partition": "../p"}, "expected up to 128 letters"),
        (["monitor", "collect"], {"hour": "2026-01-01T00:00:00"}, "has no time zone"),
        (["monitor", "collect"], {"hour": "2026-01-01T00:30:00Z"}, "first second of an hour"),
    ],
)
def test_a_wrong_request_is_not_worth_a_retry(
    arguments: list[str],
    request_: object,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path,
) -> None:
    monkeypatch.setenv("MLOPS_RETRAINING_DATA_PATH", str(tmp_path))
    code, sentence = answer(arguments, request_, monkeypatch, capsys)
    assert code == 64
    assert expected in sentence


def test_a_step_before_its_predecessor_is_worth_a_retry(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path
) -> None:
    monkeypatch.setenv("MLOPS_RETRAINING_DATA_PATH", str(tmp_path))
    code, sentence = answer(["retrain", "train"], REQUEST, monkeypatch, capsys)
    assert code == 1
    assert sentence.startswith("StepMissing: ")


def test_a_retry_asks_nobody_for_the_latest_champion_or_rows(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path
) -> None:
    """Nothing of the stack is there to be asked: the partition alone says what was begun."""
    monkeypatch.setenv("MLOPS_RETRAINING_DATA_PATH", str(tmp_path))
    monkeypatch.setenv("MLOPS_RETRAINING_MIN_SAMPLES", "100")
    request = msgspec.convert(REQUEST, RetrainingRequest)
    plan = plan_of(request, min_samples=100, champion="1.2.0")
    partition = Partition(tmp_path, request.partition)
    partition.begin(plan)
    stopped = Stopped(step=Step.EXTRACT, reason=StopReason.EMPTY_STORE, sentence="no query")
    partition.finish(Step.EXTRACT, stopped)
    documents = tmp_path / "given.json"
    documents.write_bytes(
        msgspec.json.encode(Documents(digest="d", ids=["a"], passages=["p"], domains=[""]))
    )
    asked = REQUEST | {"documents": str(documents)}
    code, sentence = answer(["retrain", "extract"], asked, monkeypatch, capsys)
    assert (code, sentence) == (99, "stopped at extract (empty_store): no query")
    assert partition.plan() == plan


def test_what_a_library_prints_is_not_taken_for_the_answer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path
) -> None:
    def noisy(*_: object) -> dict[str, str]:
        print("View run at: http://127.0.0.1")  # noqa: T201  as MLflow does
        return {"sentence": "done"}

    monkeypatch.setenv("MLOPS_RETRAINING_DATA_PATH", str(tmp_path))
    monkeypatch.setattr(steps, "steps_of", lambda _: {"train": noisy})
    assert answer(["retrain", "train"], REQUEST, monkeypatch, capsys) == (0, "done")
