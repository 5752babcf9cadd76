"""`python -m mlops.local.mlflow_server --path DIR --port N`: MLflow's own server on one machine.

Runs and models in SQLite below DIR; files in the bucket that MLOPS_MINIO_* names where there is an
S3 server, else below DIR. Prints `ready http://HOST:PORT`; SIGTERM ends it with all its workers.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from mlops.local.child import Child, free_ports, run

HOST = "127.0.0.1"
ARTIFACT_PREFIX = "mlflow"
"""Folder in the bucket, beside the artifact store's own."""


def environment_of(environ: Mapping[str, str]) -> dict[str, str]:
    """Without telemetry and without background jobs, which nothing here uses and cost 2 GB."""
    found = dict(environ) | {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    if endpoint := environ.get("MLOPS_MINIO_ENDPOINT"):
        secure = environ.get("MLOPS_MINIO_SECURE", "false").lower() in {"true", "1", "yes"}
        found |= {
            "MLFLOW_S3_ENDPOINT_URL": f"{'https' if secure else 'http'}://{endpoint}",
            "AWS_ACCESS_KEY_ID": environ.get("MLOPS_MINIO_ACCESS_KEY", ""),
            "AWS_SECRET_ACCESS_KEY": environ.get("MLOPS_MINIO_SECRET_KEY", ""),
            "AWS_DEFAULT_REGION": environ.get("AWS_DEFAULT_REGION", "us-east-1"),
        }
    return found


def artifacts_of(environ: Mapping[str, str], path: Path) -> str:
    """Where files go."""
    if "MLOPS_MINIO_ENDPOINT" not in environ:
        return (path / "artifacts").as_uri()
    bucket = environ.get("MLOPS_MINIO_BUCKET_NAME", "rag-artifacts")
    return f"s3://{bucket}/{ARTIFACT_PREFIX}"


def main() -> int:
    """Parse the arguments and serve."""
    parser = argparse.ArgumentParser(
        prog="python -m mlops.local.mlflow_server", description=__doc__
    )
    parser.add_argument("--path", type=Path, required=True, help="directory of the database")
    parser.add_argument("--port", type=int, required=True, help="0 takes a free one")
    arguments = parser.parse_args()
    environ = dict(os.environ)  # noqa: TID251  the composition root of this process
    path: Path = arguments.path.resolve()
    path.mkdir(parents=True, exist_ok=True)
    port = arguments.port or free_ports(1)[0]
    return run(
        Child(
            arguments=[
                sys.executable,
                "-m",
                "mlflow",
                "server",
                f"--backend-store-uri=sqlite:///{path / 'mlflow.sqlite'}",
                f"--artifacts-destination={artifacts_of(environ, path)}",
                f"--host={HOST}",
                f"--port={port}",
                "--workers=1",
            ],
            environment=environment_of(environ),
            url=f"http://{HOST}:{port}",
            health_path="/health",
        )
    )


if __name__ == "__main__":
    sys.exit(main())
