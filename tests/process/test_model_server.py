from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import aiohttp
import msgspec
import pytest
import trustme

from mlops.deployment.errors import ServerUnavailable
from mlops.deployment.server_client import ServerClient
from mlops.local.child import free_ports
from mlops.service.tls import Trust
from mlops.service.tls_settings import ClientTls
from mlops.serving.model import read_manifest, write_model
from mlops.training.linear_adapter import BASE_VERSION
from tests.certificates import issue

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]  # the first trains three versions

Start = Callable[..., "tuple[subprocess.Popen[str], str]"]
ROOT = Path(__file__).resolve().parents[2]
BODY = {"query_text": "join two paths", "user_id": "u", "session_id": "s"}


@pytest.fixture(scope="module")
def version(versions: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models of a test")  # a space in the path is on purpose
    shutil.copytree(versions[BASE_VERSION].parent, directory, dirs_exist_ok=True)
    return directory / BASE_VERSION


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a server and wait for its line; every one is ended."""
    processes: list[subprocess.Popen[str]] = []

    def starter(module: str, *arguments: str) -> tuple[subprocess.Popen[str], str]:
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore::SyntaxWarning", "-m", module, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        processes.append(process)
        assert process.stdout is not None
        return process, process.stdout.readline()

    yield starter
    for process in processes:
        process.kill()
        process.communicate(timeout=10)


async def test_a_server_says_ready_answers_and_ends_on_sigterm(start: Start, version: Path) -> None:
    process, line = start("mlops.serving", "--model", str(version), "--port", "0")
    word, url = line.split()
    assert word == "ready"
    assert url.startswith("http://127.0.0.1:")
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
        async with session.get(f"{url}/healthz") as response:
            assert response.status == 200
        async with session.post(f"{url}/query", json=BODY) as response:
            assert (await response.json())["version"] == "1.0.0"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0
    assert process.stdout is not None
    assert process.stdout.read() == ""


async def test_a_server_with_a_certificate_speaks_tls_alone(
    start: Start, version: Path, tmp_path: Path
) -> None:
    authority = trustme.CA()
    own, person = (issue(tmp_path, authority, name) for name in ("server", "person"))
    files = ("--tls-cert", own.cert, "--tls-key", own.key, "--tls-client-ca", own.ca)
    _, line = start("mlops.serving", *files, "--model", str(version), "--port", "0")
    url = line.split()[1]
    assert url.startswith("https://")
    async with ServerClient(url, "", trust=Trust(person)) as client:
        assert (await client.served()).version == BASE_VERSION
    for tls in (ClientTls(ca=person.ca), ClientTls(cert=person.cert, key=person.key)):
        async with ServerClient(url, "", trust=Trust(tls)) as client:
            with pytest.raises(ServerUnavailable):
                await client.served()


@pytest.mark.parametrize(
    ("given", "code", "said"),
    [
        (("--tls-cert", "DIR/server-cert.pem"), 2, "--tls-cert and --tls-key together"),
        (("--tls-cert", "DIR/none.pem", "--tls-key", "DIR/server-key.pem"), 1, "none.pem"),
    ],
)
def test_a_certificate_that_cannot_be_used_ends_the_server_with_the_reason(
    start: Start, version: Path, tmp_path: Path, given: tuple[str, ...], code: int, said: str
) -> None:
    issue(tmp_path, trustme.CA(), "server")
    files = (one.replace("DIR", str(tmp_path)) for one in given)
    process, _ = start("mlops.serving", *files, "--model", str(version), "--port", "0")
    _, log = process.communicate(timeout=20)
    assert process.returncode == code
    assert said in log
    assert "Traceback" not in log


async def test_the_faulty_server_is_the_same_server_with_faults(
    start: Start, version: Path
) -> None:
    faults = ("--error-percent", "50", "--hang-percent", "0", "--delay-ms", "1", "--seed", "3")
    process, line = start("mlops.serving.faults", *faults, "--model", str(version), "--port", "0")
    url = line.split()[1]
    statuses = []
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
        for _ in range(40):
            async with session.post(f"{url}/query", json=BODY) as response:
                statuses.append(response.status)
    assert {200, 500} == set(statuses)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=10) == 0


async def test_a_hung_request_does_not_keep_the_server_from_ending(
    start: Start, version: Path
) -> None:
    process, line = start(
        "mlops.serving.faults", "--hang-percent", "100", "--model", str(version), "--port", "0"
    )
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
        with pytest.raises(TimeoutError):
            await session.post(
                f"{line.split()[1]}/query", json=BODY, timeout=aiohttp.ClientTimeout(total=0.3)
            )
        hung = asyncio.ensure_future(session.post(f"{line.split()[1]}/query", json=BODY))
        async with session.get(f"{line.split()[1]}/healthz") as response:
            assert response.status == 200
        process.send_signal(signal.SIGTERM)
        with pytest.raises(aiohttp.ClientError):
            await hung
    assert await asyncio.to_thread(process.wait, 10) == 0


@pytest.mark.parametrize("module", ["mlops.serving", "mlops.serving.faults"])
def test_a_directory_that_is_no_model_ends_the_server_with_the_reason(
    start: Start, module: str, tmp_path: Path
) -> None:
    process, line = start(module, "--model", str(tmp_path), "--port", "0")
    _, log = process.communicate(timeout=20)
    assert (line, process.returncode) == ("", 1)
    assert "is not a model version" in log
    assert "Traceback" not in log


def test_impossible_faults_end_the_server_with_the_reason(start: Start, tmp_path: Path) -> None:
    process, _ = start(
        "mlops.serving.faults", "--error-percent", "120", "--model", str(tmp_path), "--port", "0"
    )
    _, log = process.communicate(timeout=20)
    assert process.returncode == 2
    assert "120" in log


async def test_a_server_that_comes_back_goes_on_with_the_version_it_served(
    start: Start, version: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLOPS_MINIO_ENDPOINT", "127.0.0.1:9")
    other = tmp_path / "team" / "2.0.0"
    write_model(other, msgspec.structs.replace(read_manifest(version), version="2.0.0"), None)
    (port,) = free_ports(1)
    arguments = ["--model", str(version), "--port", str(port)]
    arguments += ["--corpus-cache", str(version.parent), "--registered", str(tmp_path)]
    timeout = aiohttp.ClientTimeout(total=60)

    for served in ("1.0.0", "2.0.0"):
        process, line = start("mlops.serving", *arguments)
        url = line.split()[1]
        async with aiohttp.ClientSession(timeout=timeout) as session:
            async with session.get(f"{url}/healthz") as response:
                assert (await response.json())["version"] == served
            body = {"model": "team", "version": "2.0.0"}
            async with session.post(f"{url}/admin/models", json=body) as response:
                assert response.status == 200, await response.text()
        process.kill()
        process.wait()

    (other / "manifest.json").unlink()
    process, line = start("mlops.serving", *arguments)
    assert line == "", "it does not serve another version in its place"
    assert f"remove {tmp_path}/served-{port}.json to serve --model" in process.communicate()[1]
    assert process.returncode == 1
