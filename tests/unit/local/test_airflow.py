"""Airflow's parts are found again by their folder, whatever they do to their own memory."""

from __future__ import annotations

import subprocess
import urllib.error
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from mlops.local.airflow import Airflow, AirflowFailed
from tests.answering import answering


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "airflow").mkdir()
    return tmp_path / "airflow"


@pytest.fixture
def stranger(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "100"], env={}, cwd=tmp_path)
    yield process
    process.kill()
    process.wait()


@pytest.mark.parametrize(
    ("named", "works_inside"), [(True, False), (False, True)], ids=["by its name", "by its place"]
)
def test_what_belongs_to_the_folder_is_ended_and_nothing_else(
    home: Path, stranger: subprocess.Popen[bytes], named: bool, works_inside: bool
) -> None:
    environment: Mapping[str, str] = {"AIRFLOW_HOME": str(home)} if named else {}
    place = home if works_inside else home.parent
    ours = subprocess.Popen(["sleep", "100"], env=environment, cwd=place)
    airflow = Airflow(home=home, binary=Path("/bin"), project=home, environment={})
    airflow._processes["part"] = ours
    airflow.stop()
    assert ours.poll() is not None
    assert stranger.poll() is None


def test_a_database_that_cannot_be_made_is_told_at_once(home: Path, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "airflow"
    program.write_text("#!/bin/sh\nexit 3\n")
    program.chmod(0o755)
    airflow = Airflow(home=home, binary=program.parent, project=home, environment={})
    with pytest.raises(AirflowFailed, match=r"migrate ended with code 3; see .*migrate\.log"):
        airflow.start()


@pytest.mark.parametrize(
    ("answers", "asked", "is_wrong"),
    [([503, 200], 2, False), ([503, 409], 2, False), ([503, 422], 2, True)],
    ids=["until it is taken", "taken though it said no", "never taken"],
)
def test_a_call_is_made_again_while_airflow_is_busy_and_only_then(
    home: Path, answers: list[int], asked: int, is_wrong: bool
) -> None:
    paths: list[str] = []

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.rfile.read(int(request.headers["content-length"]))
        logs_in = request.path == "/auth/token"
        if not logs_in:
            paths.append(request.path)
        body = b'{"access_token": "t"}'
        request.send_response(201 if logs_in else answers[len(paths) - 1])
        request.send_header("content-length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    with answering(answer) as address:
        airflow = Airflow(
            home=home, binary=home, project=home, environment={}, url=f"http://{address}"
        )
        if is_wrong:
            with pytest.raises(urllib.error.HTTPError, match="422"):
                airflow.insist("POST", "backfills", {})
        else:
            airflow.insist("POST", "backfills", {})
    assert paths == ["/api/v2/backfills"] * asked


def test_an_answer_that_comes_too_late_is_waited_for_again(home: Path) -> None:
    answers = iter([TimeoutError("timed out"), False, True])

    def holds() -> bool:
        answer = next(answers)
        if isinstance(answer, TimeoutError):
            raise answer
        return answer

    airflow = Airflow(home=home, binary=home, project=home, environment={})
    airflow.wait_until(holds, 60, "it does not hold")
    assert next(answers, None) is None
