"""`python -m mlops.local.s3 --path DIR --port N --bucket NAME`: an S3 server on one machine.

SeaweedFS from its wheel, on loopback, its telemetry off. Keys come from MLOPS_MINIO_ACCESS_KEY and
MLOPS_MINIO_SECRET_KEY. Prints `ready http://HOST:PORT`; SIGTERM ends it.
"""

from __future__ import annotations

import argparse
import os
import sys
from functools import partial
from pathlib import Path

from minio import Minio
from minio.error import MinioException
from urllib3 import PoolManager
from urllib3.exceptions import HTTPError

from mlops.local.child import PROBE_TIMEOUT_S, Child, free_ports, run

SERVER = Path(sys.executable).parent / "weed"
HOST = "127.0.0.1"
_PARTS = ("master", "volume", "filer")
"""What the server is made of inside; each wants two ports."""


def arguments_of(path: Path, port: int, buckets: list[str]) -> list[str]:
    """The command line: every port is named, so that none is one of its defaults."""
    inner = free_ports(2 * len(_PARTS) + 2)
    ports = []
    for number, part in enumerate(_PARTS):
        ports += [f"-{part}.port={inner[2 * number]}", f"-{part}.port.grpc={inner[2 * number + 1]}"]
    return [
        str(SERVER),
        "mini",
        f"-dir={path}",
        f"-ip={HOST}",
        f"-ip.bind={HOST}",
        f"-s3.port={port}",
        f"-s3.port.grpc={inner[-1]}",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        *ports,
        "-admin.ui=false",
        f"-admin.port={inner[-2]}",
        "-webdav=false",
        "-master.telemetry=false",
        f"-bucket={','.join(buckets)}",
    ]


def main() -> int:
    """Parse the arguments and serve."""
    parser = argparse.ArgumentParser(prog="python -m mlops.local.s3", description=__doc__)
    parser.add_argument("--path", type=Path, required=True, help="directory of the objects")
    parser.add_argument("--port", type=int, required=True, help="0 takes a free one")
    parser.add_argument("--bucket", action="append", default=[], help="made if missing")
    arguments = parser.parse_args()
    environ = dict(os.environ)  # noqa: TID251  the composition root of this process
    access_key = environ.get("MLOPS_MINIO_ACCESS_KEY", "")
    secret_key = environ.get("MLOPS_MINIO_SECRET_KEY", "")
    if not access_key or not secret_key:
        sys.stderr.write("MLOPS_MINIO_ACCESS_KEY and MLOPS_MINIO_SECRET_KEY must be set\n")
        return 2
    arguments.path.mkdir(parents=True, exist_ok=True)
    port = arguments.port or free_ports(1)[0]
    return run(
        Child(
            arguments=arguments_of(arguments.path.resolve(), port, arguments.bucket),
            environment=environ
            | {"AWS_ACCESS_KEY_ID": access_key, "AWS_SECRET_ACCESS_KEY": secret_key},
            url=f"http://{HOST}:{port}",
            health_path="/healthz",
            # It answers before it has made its buckets.
            is_complete=partial(_has_buckets, port, access_key, secret_key, arguments.bucket),
        )
    )


def _has_buckets(port: int, access_key: str, secret_key: str, names: list[str]) -> bool:
    client = Minio(
        endpoint=f"{HOST}:{port}",
        access_key=access_key,
        secret_key=secret_key,
        secure=False,
        http_client=PoolManager(timeout=PROBE_TIMEOUT_S, retries=False),  # it is asked again
    )
    try:
        return all(client.bucket_exists(bucket_name=name) for name in names)
    except (MinioException, HTTPError):
        return False


if __name__ == "__main__":
    sys.exit(main())
