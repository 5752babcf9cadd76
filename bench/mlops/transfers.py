"""One large file to and from an S3 server: the artifact store beside the SDK it is made on.

Each transfer is a process of its own, so that its peak of memory is its own:
`python -m bench.mlops.transfers STORE|SDK upload|download FILE VERSION`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from time import perf_counter
from typing import Final

from minio import Minio

from bench.report import Measured
from mlops.artifact_store import MinIOArtifactStore
from mlops.config import MinioSettings
from mlops.local.processes import Command, start, stop

FILE_BYTES: Final = 1_000_000_000
ROUNDS: Final = 3
"""Of each, in turn; the best counts, as the machine is not ours alone."""
BUCKET: Final = "bench"
KEYS: Final = {"MLOPS_MINIO_ACCESS_KEY": "bench", "MLOPS_MINIO_SECRET_KEY": "bench-secret"}
WAYS: Final = ("SDK", "STORE")
MIB: Final = 1024 * 1024


def measure(directory: Path) -> list[Measured]:
    """Throughput and memory of both ways."""
    file = directory / "weights.bin"
    with file.open("wb") as target:
        for _ in range(FILE_BYTES // 1_000_000):
            target.write(os.urandom(1_000_000))
    command = Command(
        name="s3",
        arguments=[
            "mlops.local.s3",
            f"--path={directory / 'objects'}",
            "--port=0",
            f"--bucket={BUCKET}",
        ],
        environment={**os.environ, **KEYS},
    )
    server = start(command, directory)
    try:
        rows = []
        for direction in ("upload", "download"):
            best, peak = _rounds(direction, file, server.urls[0])
            rows += _rows(direction, best, peak)
        return rows
    finally:
        stop([server], lambda: os.waitpid(server.pid, os.WNOHANG))


def _rounds(direction: str, file: Path, url: str) -> tuple[dict[str, float], dict[str, float]]:
    """Fewest seconds and most MiB of each way."""
    best = dict.fromkeys(WAYS, float("inf"))
    peak = dict.fromkeys(WAYS, 0.0)
    for number in range(ROUNDS):
        for way in WAYS:
            version = f"{number}.0.0"
            if direction == "upload":
                _spoil(file, number)
            command = [sys.executable, "-m", "bench.mlops.transfers", way, direction]
            done = subprocess.run(
                [*command, str(file), version],
                env={**os.environ, **KEYS, "S3": url.removeprefix("http://")},
                capture_output=True,
                check=True,
            )
            seconds, mib = json.loads(done.stdout)
            best[way], peak[way] = min(best[way], seconds), max(peak[way], mib)
    return best, peak


def _spoil(file: Path, number: int) -> None:
    """Change every chunk: what is stored already would not be sent again."""
    with file.open("r+b") as target:
        for position in range(0, FILE_BYTES, MIB):
            target.seek(position)
            target.write(os.urandom(8))


def _rows(direction: str, best: dict[str, float], peak: dict[str, float]) -> list[Measured]:
    speed = {way: FILE_BYTES / 1e6 / seconds for way, seconds in best.items()}
    ratio = speed["STORE"] / speed["SDK"]
    return [
        Measured(
            name=f"{direction} of 1 GB beside the SDK",
            value=ratio,
            unit="of its MB/s",
            goal=">= 0.9",
            holds=ratio >= 0.9,
            peers={"store MB/s": speed["STORE"], "SDK MB/s": speed["SDK"]},
        ),
        Measured(
            name=f"{direction} of 1 GB, memory of the whole process",
            value=peak["STORE"],
            unit="MB at its peak",
            goal="<= 100",
            holds=peak["STORE"] <= 100,
            peers={"SDK": peak["SDK"]},
        ),
    ]


# ---- one transfer -----------------------------------------------------------------------------


def _store(direction: str, file: Path, version: str, endpoint: str) -> None:
    cache = file.with_name("cache")
    settings = MinioSettings(
        endpoint=endpoint,
        access_key=KEYS["MLOPS_MINIO_ACCESS_KEY"],
        secret_key=KEYS["MLOPS_MINIO_SECRET_KEY"],
        bucket_name=BUCKET,
        secure=False,
        encrypted=False,
        cache_dir=cache,
        cache_bytes=0,
    )
    store = MinIOArtifactStore(settings)
    if direction == "upload":
        store.upload_model(file, "model", version)
    else:
        store.download_model("model", version, file.with_name("got-store"))


def _sdk(direction: str, file: Path, version: str, endpoint: str) -> None:
    client = Minio(
        endpoint=endpoint,
        access_key=KEYS["MLOPS_MINIO_ACCESS_KEY"],
        secret_key=KEYS["MLOPS_MINIO_SECRET_KEY"],
        secure=False,
    )
    name = f"sdk/{version}"
    if direction == "upload":
        client.fput_object(bucket_name=BUCKET, object_name=name, file_path=str(file))
    else:
        target = str(file.with_name("got-sdk"))
        client.fget_object(bucket_name=BUCKET, object_name=name, file_path=target)


def main() -> None:
    way, direction, file, version = sys.argv[1:]
    transfer = _store if way == "STORE" else _sdk
    started_s = perf_counter()
    transfer(direction, Path(file), version, os.environ["S3"])
    seconds = perf_counter() - started_s
    for name in ("got-store", "got-sdk"):
        Path(file).with_name(name).unlink(missing_ok=True)
    peak_kib = next(
        int(line.split()[1])
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        if line.startswith("VmHWM:")
    )
    print(json.dumps([seconds, peak_kib * 1024 / 1e6]))


if __name__ == "__main__":
    main()
