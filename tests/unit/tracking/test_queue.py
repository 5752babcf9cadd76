"""Operations that wait on disk: all of them, in order, whatever became of their writer."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlops.tracking.errors import TrackingRefused, TrackingUnavailable
from mlops.tracking.operations import Create, End, Log, Operation, Upload
from mlops.tracking.queue import OperationQueue

BEGIN = Create(run_id="local-1", experiment="e", name="n", started_ms=1, tags={})
METRIC = Log(run_id="local-1", at_ms=2, metrics={"mrr": 0.5})
END = End(run_id="local-1", status="FINISHED", at_ms=3)


class Mlflow:
    """Takes operations, and gives new runs an id."""

    def __init__(self) -> None:
        self.taken: list[tuple[Operation, str | None]] = []

    def __call__(self, operation: Operation, run_id: str | None) -> str | None:
        self.taken.append((operation, run_id))
        return "7" if isinstance(operation, Create) else run_id


@pytest.fixture
def queue(tmp_path: Path) -> OperationQueue:
    return OperationQueue(tmp_path / "queue")


def test_everything_is_sent_in_order_under_the_id_that_was_learned(queue: OperationQueue) -> None:
    for one in (BEGIN, METRIC, END):
        queue.append(one)
    mlflow = Mlflow()
    assert queue.drain(mlflow) == 3
    assert mlflow.taken == [(BEGIN, None), (METRIC, "7"), (END, "7")]
    assert len(queue) == 0
    assert queue.known_id("local-1") == "7"


@pytest.mark.parametrize("kept", [1, 20, -1], ids=["a byte", "some", "all but the end of the line"])
def test_half_a_line_was_never_written(queue: OperationQueue, tmp_path: Path, kept: int) -> None:
    """Its writer was killed, or had no room; what follows it must not be lost with it."""
    queue.append(BEGIN)
    lines = tmp_path / "queue" / "operations.jsonl"
    whole = lines.read_bytes()
    queue.append(METRIC)
    torn = lines.read_bytes()[len(whole) :]
    lines.write_bytes(whole + torn[:kept])
    assert len(queue) == 1

    queue.append(END)

    mlflow = Mlflow()
    assert queue.drain(mlflow) == 2
    assert [one for one, _ in mlflow.taken] == [BEGIN, END]


def test_half_a_line_alone_is_an_empty_queue(queue: OperationQueue, tmp_path: Path) -> None:
    (tmp_path / "queue" / "operations.jsonl").write_bytes(b'{"type":"En')
    assert len(queue) == 0
    queue.append(END)
    assert len(queue) == 1


def test_what_was_not_sent_stays(queue: OperationQueue) -> None:
    def away_after_the_first(operation: Operation, run_id: str | None) -> str | None:
        if operation != BEGIN:
            raise TrackingUnavailable("away")
        return "7"

    for one in (BEGIN, METRIC, END):
        queue.append(one)
    with pytest.raises(TrackingUnavailable):
        queue.drain(away_after_the_first)
    mlflow = Mlflow()
    assert queue.drain(mlflow) == 2
    assert mlflow.taken == [(METRIC, "7"), (END, "7")]


def test_what_is_refused_is_put_aside_and_told_at_the_end(
    queue: OperationQueue, tmp_path: Path
) -> None:
    sent: list[Operation] = []

    def refusing(operation: Operation, run_id: str | None) -> str | None:
        if operation == METRIC:
            raise TrackingRefused("no such metric")
        sent.append(operation)
        return "7"

    for one in (BEGIN, METRIC, END):
        queue.append(one)
    with pytest.raises(TrackingRefused, match="no such metric"):
        queue.drain(refusing)
    assert sent == [BEGIN, END]
    assert len(queue) == 0
    assert b"mrr" in (tmp_path / "queue" / "refused.jsonl").read_bytes()


def test_a_file_waits_as_it_was_and_goes_once_it_is_sent(
    queue: OperationQueue, tmp_path: Path
) -> None:
    report = tmp_path / "report.txt"
    report.write_text("all well")
    queue.append(Upload(run_id="1", path=str(report), artifact_path=None))
    report.write_text("changed")
    seen: list[str] = []

    def read(operation: Operation, run_id: str | None) -> str | None:
        assert isinstance(operation, Upload)
        seen.append(Path(operation.path).read_text())
        return run_id

    queue.drain(read)
    assert seen == ["all well"]
    assert not list((tmp_path / "queue" / "files").iterdir())


def test_the_working_directory_waits_under_its_own_name(
    queue: OperationQueue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "plots"
    folder.mkdir()
    (folder / "loss.txt").write_text("0.1")
    monkeypatch.chdir(folder)
    queue.append(Upload(run_id="r", path=".", artifact_path=None))
    sent = []

    def send(operation: Operation, _: str | None) -> None:
        assert isinstance(operation, Upload)
        sent.append((Path(operation.path).name, (Path(operation.path) / "loss.txt").read_text()))

    assert queue.drain(send) == 1
    assert sent == [("plots", "0.1")]
