"""Bring registered versions from the artifact store to this machine."""

from __future__ import annotations

from pathlib import Path

from mlops.serving.model import MANIFEST, BadModel
from mlops.serving.versions import Fetch


def fetching(directory: Path) -> Fetch:
    """Fetch into `directory/MODEL/VERSION`; what lies there already is used as it is.

    The store is found by `MLOPS_MINIO_*`, and looked for only when a version is asked for.
    """

    def fetch(name: str, version: str) -> Path:
        # Only a server that loads registered versions needs the store's libraries.
        from mlops.artifact_store import ArtifactError, MinIOArtifactStore  # noqa: PLC0415
        from mlops.config import ConfigError  # noqa: PLC0415

        target = directory / name / version
        if (target / MANIFEST).exists():
            return target
        try:
            MinIOArtifactStore().download_model(name, version, target)
        except (ArtifactError, ConfigError, ValueError) as error:
            raise BadModel(f"{name} {version} cannot be fetched: {error}") from error
        return target

    return fetch
