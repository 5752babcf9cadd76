"""What is told of an MLflow server that does not do what it is asked."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException

from mlops.config import MlflowSettings, read_config
from mlops.config.reading import effective
from mlops.doctor.checks import _mlflow
from mlops.doctor.findings import State
from mlops.tracking.connection import MlflowConnection
from mlops.tracking.errors import TrackingError, TrackingRefused, TrackingUnavailable
from tests.answering import answering

PASSWORD = "hush"
NOBODY = "http://" + f"ann:{PASSWORD}" + "@127.0.0.1:9"


def settings(uri: str) -> MlflowSettings:
    return MlflowSettings(tracking_uri=uri, registry_uri=uri, experiment_name="e")


def test_a_server_that_is_away_is_named_without_its_user() -> None:
    connection = MlflowConnection(settings(NOBODY))
    with (
        pytest.raises(TrackingUnavailable, match=r"//\(hidden\)@127\.0\.0\.1:9") as told,
        connection.calling("start run"),
    ):
        raise AssertionError("nobody answers")
    assert PASSWORD not in str(told.value)


@pytest.fixture
def healthy() -> Iterator[str]:
    """A server that is well."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()

    with answering(answer) as address:
        yield f"http://{address}"


@pytest.mark.parametrize("failure", [ConnectionResetError, MlflowException])
def test_what_the_client_says_of_the_address_is_told_without_its_user(
    healthy: str, failure: type[Exception]
) -> None:
    connection = MlflowConnection(settings(healthy))
    with pytest.raises(TrackingError) as told, connection.calling("start run"):
        raise failure(f"API request to {NOBODY}/api/2.0 failed")
    assert "(hidden)@127.0.0.1:9/api/2.0 failed" in str(told.value)
    assert PASSWORD not in str(told.value)


async def test_an_address_of_no_kind_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(TrackingRefused, match="ftp://runs"):
        MlflowConnection(settings("ftp://runs"))
    config = read_config({"MLOPS_MLFLOW_TRACKING_URI": "ftp://runs"}, tmp_path)
    (finding,) = await _mlflow(config)
    assert finding.state is State.FAILED
    assert "ftp" in finding.what


async def test_the_doctor_names_a_server_without_its_user(tmp_path: Path) -> None:
    environ = {"MLOPS_MLFLOW_TRACKING_URI": NOBODY}
    (finding,) = await _mlflow(read_config(environ, tmp_path))
    assert PASSWORD not in f"{finding.part} {finding.what}"
    assert PASSWORD not in effective(environ, tmp_path)["MLOPS_MLFLOW_TRACKING_URI"].shown
