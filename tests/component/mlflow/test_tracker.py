"""The tracker against a real MLflow server."""

from __future__ import annotations

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import requests
from mlflow import MlflowClient

from mlops.config import MlflowSettings
from mlops.mlflow_tracker import (
    RAGModelTracker,
    RunStatus,
    TrackingRefused,
    TrackingUnavailable,
    WhenAway,
)

NOBODY = "http://127.0.0.1:9"


@pytest.fixture
def client(mlflow_settings: MlflowSettings) -> MlflowClient:
    return MlflowClient(mlflow_settings.tracking_uri)


def test_a_run_holds_what_was_logged(mlflow_settings: MlflowSettings, client: MlflowClient) -> None:
    tracker = RAGModelTracker(mlflow_settings)
    window = (datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 8, tzinfo=UTC))

    run_id = tracker.start_training_run("embedding_model_v1", data_window=window)
    tracker.log_parameters(run_id, {"batch_size": 32, "learning_rate": 0.001})
    for epoch, mrr in enumerate((0.40, 0.50, 0.53)):
        tracker.log_metrics(run_id, {"mrr": mrr}, step=epoch)
    tracker.log_dataset(run_id, name="queries", source="/data/2026-01-01", digest="ab12", rows=900)
    tracker.set_tags(run_id, {"team": "search", "stage": "draft"})
    tracker.set_tags(run_id, {"stage": "done"})
    tracker.end_run(run_id)

    run = client.get_run(run_id)
    assert run.info.run_name == "embedding_model_v1"
    assert run.info.status == "FINISHED"
    assert run.data.params == {"batch_size": "32", "learning_rate": "0.001"}
    assert [(m.step, m.value) for m in client.get_metric_history(run_id, "mrr")] == [
        (0, 0.40),
        (1, 0.50),
        (2, 0.53),
    ]
    assert run.data.tags["data.since"] == "2026-01-01T00:00:00+00:00"
    assert (run.data.tags["team"], run.data.tags["stage"]) == ("search", "done")
    is_checkout = shutil.which("git") and (Path(__file__).parents[3] / ".git").exists()
    commit = run.data.tags.get("mlflow.source.git.commit")
    assert (len(commit) == 40) if is_checkout else (commit is None)
    (dataset,) = run.inputs.dataset_inputs
    assert (dataset.dataset.name, dataset.dataset.digest) == ("queries", "ab12")


def test_files_and_folders_become_artifacts(
    mlflow_settings: MlflowSettings, client: MlflowClient, tmp_path: Path
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model/weights.bin").write_bytes(b"\x00\x01")
    with RAGModelTracker(mlflow_settings) as tracker:
        run_id = tracker.start_training_run("files")
        tracker.log_artifact(run_id, tmp_path / "model", "model")
        with pytest.raises(FileNotFoundError, match="nowhere"):
            tracker.log_artifact(run_id, "nowhere")

    path = client.download_artifacts(run_id, "model/weights.bin", str(tmp_path))
    assert Path(path).read_bytes() == b"\x00\x01"
    assert client.get_run(run_id).info.status == "FINISHED"


@pytest.mark.parametrize(
    ("error", "status"), [(RuntimeError("no"), "FAILED"), (KeyboardInterrupt(), "KILLED")]
)
def test_a_run_ends_with_what_happened_to_its_block(
    mlflow_settings: MlflowSettings, client: MlflowClient, error: BaseException, status: str
) -> None:
    tracker = RAGModelTracker(mlflow_settings)

    with pytest.raises(type(error)), tracker.training_run("fails") as run_id:
        raise error

    assert client.get_run(run_id).info.status == status


@pytest.mark.parametrize("around", ["a run", "a tracker"])
def test_what_a_block_raises_comes_out_though_mlflow_has_gone_away(
    mlflow_settings: MlflowSettings, monkeypatch: pytest.MonkeyPatch, around: str
) -> None:
    tracker = RAGModelTracker(mlflow_settings)

    def away(*_: object) -> None:
        raise requests.ConnectionError("gone")

    def train() -> None:
        with ExitStack() as stack:
            if around == "a run":
                stack.enter_context(tracker.training_run("fails"))
            else:
                stack.enter_context(tracker).start_training_run("fails")
            raise KeyError("embedding")

    with monkeypatch.context() as patched:
        patched.setattr(tracker._connection.client, "set_terminated", away)
        with pytest.raises(KeyError) as raised:
            train()

    (note,) = raised.value.__notes__
    assert note.startswith("its run in MLflow could not be ended: End of run")


def test_a_run_that_somebody_deleted_keeps_no_other_open(
    mlflow_settings: MlflowSettings, client: MlflowClient
) -> None:
    tracker = RAGModelTracker(mlflow_settings)
    begun = sorted(tracker.start_training_run("left open") for _ in range(2))
    client.delete_run(begun[0])

    with pytest.raises(TrackingRefused):
        tracker.close()
    tracker.close()

    assert client.get_run(begun[1]).info.status == "FINISHED"


@pytest.mark.parametrize(("last_line", "status"), [("", "FINISHED"), ("1 / 0", "FAILED")])
def test_a_run_left_open_ends_with_its_process(
    mlflow_settings: MlflowSettings, client: MlflowClient, last_line: str, status: str
) -> None:
    program = f"""
from mlops.config import MlflowSettings
from mlops.mlflow_tracker import RAGModelTracker
tracker = RAGModelTracker(MlflowSettings(tracking_uri={mlflow_settings.tracking_uri!r},
    registry_uri={mlflow_settings.tracking_uri!r}, experiment_name="left-open"))
print(tracker.start_training_run("left open"), flush=True)
{last_line}
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=False
    )

    assert client.get_run(done.stdout.split()[0]).info.status == status, done.stderr


def test_many_threads_log_into_their_own_runs(
    mlflow_settings: MlflowSettings, client: MlflowClient
) -> None:
    tracker = RAGModelTracker(mlflow_settings)

    def one(number: int) -> str:
        with tracker.training_run(f"run {number}") as run_id:
            tracker.log_metrics(run_id, {"number": float(number)})
        return run_id

    with ThreadPoolExecutor(8) as pool:
        run_ids = list(pool.map(one, range(16)))

    found = [client.get_run(run_id).data.metrics["number"] for run_id in run_ids]
    assert found == list(range(16))


def test_what_mlflow_refuses_is_told(mlflow_settings: MlflowSettings) -> None:
    tracker = RAGModelTracker(mlflow_settings)
    run_id = tracker.start_training_run("refused")
    tracker.log_parameters(run_id, {"batch_size": 32})

    with pytest.raises(TrackingRefused, match="batch_size"):
        tracker.log_parameters(run_id, {"batch_size": 64})
    with pytest.raises(ValueError, match="'loss' is nan"):
        tracker.log_metrics(run_id, {"loss": float("nan")})


def test_an_absent_server_is_an_error_within_seconds(mlflow_settings: MlflowSettings) -> None:
    tracker = RAGModelTracker(replace(mlflow_settings, tracking_uri=NOBODY))

    with pytest.raises(TrackingUnavailable, match="does not answer within 3 s"):
        tracker.start_training_run("nobody there")


def test_a_queued_run_reaches_mlflow_when_it_is_back(
    mlflow_settings: MlflowSettings, client: MlflowClient, tmp_path: Path
) -> None:
    queue = tmp_path / "queue"
    file = tmp_path / "report.txt"
    file.write_text("all well")
    away = RAGModelTracker(
        replace(mlflow_settings, tracking_uri=NOBODY), when_away=WhenAway.QUEUE, queue_dir=queue
    )
    with away.training_run("queued") as local_id:
        away.log_parameters(local_id, {"seed": 7})
        away.log_metrics(local_id, {"mrr": 0.5}, step=3)
        away.log_artifact(local_id, file)
    file.unlink()
    assert away.queued == 5
    assert away.mlflow_run_id(local_id) is None

    back = RAGModelTracker(mlflow_settings, when_away=WhenAway.QUEUE, queue_dir=queue)

    assert back.flush() == 5
    assert back.queued == 0
    run_id = back.mlflow_run_id(local_id)
    assert run_id is not None
    run = client.get_run(run_id)
    assert (run.info.status, run.data.params["seed"], run.data.metrics["mrr"]) == (
        "FINISHED",
        "7",
        0.5,
    )
    assert [one.path for one in client.list_artifacts(run_id)] == ["report.txt"]


def test_a_run_made_just_before_a_crash_is_not_made_twice(
    mlflow_settings: MlflowSettings, client: MlflowClient, tmp_path: Path
) -> None:
    queue = tmp_path / "queue"
    tracker = RAGModelTracker(
        replace(mlflow_settings, tracking_uri=NOBODY), when_away=WhenAway.QUEUE, queue_dir=queue
    )
    tracker.end_run(tracker.start_training_run("once"))
    lines = (queue / "operations.jsonl").read_bytes()
    back = RAGModelTracker(mlflow_settings, when_away=WhenAway.QUEUE, queue_dir=queue)
    back.flush()

    (queue / "operations.jsonl").write_bytes(lines)  # as if the crash came before this was noted
    (queue / "ids.json").unlink()
    back.flush()

    experiment = client.get_experiment_by_name(mlflow_settings.experiment_name)
    assert experiment is not None
    assert len(client.search_runs([experiment.experiment_id])) == 1


def test_a_refused_operation_does_not_hold_up_the_queue(
    mlflow_settings: MlflowSettings, client: MlflowClient, tmp_path: Path
) -> None:
    tracker = RAGModelTracker(mlflow_settings, when_away=WhenAway.QUEUE, queue_dir=tmp_path / "q")
    run_id = tracker.start_training_run("goes on")
    tracker.log_parameters(run_id, {"seed": 1})

    with pytest.raises(TrackingRefused):
        tracker.log_parameters(run_id, {"seed": 2})
    tracker.end_run(run_id, RunStatus.FINISHED)

    assert tracker.queued == 0
    mlflow_id = tracker.mlflow_run_id(run_id)
    assert mlflow_id is not None
    assert client.get_run(mlflow_id).info.status == "FINISHED"
    assert b'"seed":"2"' in (tmp_path / "q/refused.jsonl").read_bytes()
