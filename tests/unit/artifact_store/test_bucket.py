"""What a server of another kind, or none at all, answers: each failure in our words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from mlops.artifact_store import (
    BadCredentials,
    CorruptArtifact,
    MissingBucket,
    NoSpace,
    StoreUnavailable,
    VersionExists,
)
from mlops.artifact_store import bucket as bucket_module
from mlops.artifact_store.bucket import MAX_OBJECT_BYTES, RETRIES, Bucket
from mlops.config import MinioSettings
from tests.answering import answering

LOCATION = b'<LocationConstraint xmlns="http://s3.amazonaws.com/doc/2006-03-01/"/>'


@dataclass
class Server:
    """Answers with these statuses, one after the other, and bodies that are said to be so long."""

    address: str
    statuses: list[int] = field(default_factory=list)
    length: int = 0

    def bucket(self) -> Bucket:
        return Bucket(settings_for(self.address))


def settings_for(endpoint: str) -> MinioSettings:
    return MinioSettings(
        endpoint=endpoint, access_key="key", secret_key="hush", bucket_name="models",
        secure=False, encrypted=False, cache_dir=Path("nowhere"), cache_bytes=0,
    )  # fmt: skip


@pytest.fixture
def server() -> Iterator[Server]:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.rfile.read(int(request.headers.get("Content-Length", 0)))
        request.close_connection = True
        asks_where = request.path.endswith("?location=")
        if not asks_where and not found.statuses:
            return  # hangs up without an answer
        content = LOCATION if asks_where else b""
        request.send_response(200 if asks_where else found.statuses.pop(0))
        request.send_header("Content-Length", str(len(content) or found.length))
        request.end_headers()
        request.wfile.write(content)

    with answering(answer) as address:
        found = Server(address)
        yield found


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked again is asked again at once."""
    monkeypatch.setattr(bucket_module, "BACKOFF_S", 0.0)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (401, BadCredentials),
        (403, BadCredentials),
        (404, MissingBucket),
        (409, VersionExists),
        (412, VersionExists),
        (500, StoreUnavailable),
        (507, NoSpace),
    ],
)
def test_a_refusal_without_a_code_is_told_by_its_status(
    server: Server, status: int, expected: type[Exception]
) -> None:
    server.statuses = [status]
    with pytest.raises(expected):
        server.bucket().put_new("models/m/1/manifest.json", b"{}")


@pytest.mark.parametrize(("status", "there"), [(200, True), (404, False)])
def test_an_object_is_there_or_it_is_not(server: Server, status: int, there: bool) -> None:
    server.statuses = [status]
    assert server.bucket().has("chunks/ab/abc") is there


def test_what_is_longer_than_anything_of_ours_is_not_read(server: Server) -> None:
    server.statuses, server.length = [200], MAX_OBJECT_BYTES + 1
    with pytest.raises(CorruptArtifact, match="at most"):
        server.bucket().get("models/m/1/manifest.json")


@pytest.mark.usefixtures("at_once")
def test_a_busy_server_is_asked_again_and_nobody_is_told_how(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """The address of such a request is signed: it opens the object to whoever reads the log."""
    caplog.set_level("INFO")
    server.statuses = [503, 502, 200]
    assert server.bucket().has("chunks/ab/abc")

    server.statuses = [503] * (RETRIES + 1)
    with pytest.raises(StoreUnavailable, match="answered 503") as failed:
        server.bucket().put_new("models/m/1/manifest.json", b"{}")

    assert not server.statuses
    assert "X-Amz" not in f"{caplog.text} {failed.value} {failed.value.__cause__}"


@pytest.mark.usefixtures("at_once")
def test_a_server_that_goes_away_is_asked_again_and_nobody_is_told_how(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    server.statuses = [200]
    bucket = server.bucket()
    assert bucket.has("chunks/ab/abc")
    server.statuses = []  # from here on it hangs up without an answer
    with pytest.raises(StoreUnavailable, match="does not answer") as failed:
        bucket.put_new("models/m/1/manifest.json", b"{}")

    assert "X-Amz" not in f"{caplog.text} {failed.value} {failed.value.__cause__}"
