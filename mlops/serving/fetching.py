"""Bring registered versions to this machine, and load whatever kind of model they are."""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import mkdtemp
from typing import Final

from mlops.serving.model import MANIFEST, BadModel, load_model
from mlops.serving.versions import Fetch, Servable

MLMODEL: Final = "MLmodel"
"""What MLflow saves beside every model of its own."""


def load_version(directory: Path, corpus_cache: Path) -> Servable:
    """A retrieval model of ours, or any that MLflow can load as a Python function.

    Raises:
        BadModel: the directory does not hold a version that this server can serve.
    """
    if (directory / MLMODEL).exists() and not (directory / MANIFEST).exists():
        # Takes seconds: only for those who serve such models.
        from mlops.serving.pyfunc import load_pyfunc  # noqa: PLC0415

        return load_pyfunc(directory.absolute())
    return load_model(directory, corpus_cache)


def fetching(directory: Path) -> Fetch:
    """Fetch into `directory/MODEL/VERSION`; what lies there already is used as it is.

    From the artifact store (`MLOPS_MINIO_*`), else what MLflow's registry has as the version's
    source (`MLOPS_MLFLOW_*`). Both are looked for only when a version is asked for. A store that
    fails is a `BadModel` with the store's own `code`.
    """

    def fetch(name: str, version: str) -> Path:
        # Only a server that loads registered versions needs the store's libraries.
        from mlops.artifact_store import (  # noqa: PLC0415
            ArtifactError,
            MinIOArtifactStore,
            UnknownArtifact,
        )
        from mlops.artifact_store.manifest import check_name  # noqa: PLC0415

        target = directory / name / version
        try:
            check_name("model", name)
            check_name("version", version)
            if _is_version(target):
                return target
            MinIOArtifactStore().download_model(name, version, target)
        except UnknownArtifact as error:
            _fetch_from_registry(name, version, target, str(error))
        except ArtifactError as error:
            raise BadModel(
                f"{name} {version} cannot be fetched: {error}", code=error.code
            ) from error
        except (ValueError, OSError) as error:  # no name, no settings, no disk
            raise BadModel(f"{name} {version} cannot be fetched: {error}") from error
        return target

    return fetch


def _fetch_from_registry(name: str, version: str, target: Path, not_in_store: str) -> None:
    """Whole or not at all: a folder that is there is a whole version, whoever brought it."""
    from mlops.model_registry import RAGModelRegistry, TrackingError, UnknownVersion  # noqa: PLC0415

    target.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(mkdtemp(dir=target.parent, prefix=f".{version}."))
    try:
        found = RAGModelRegistry().download(name, version, draft)
        if not (found / MLMODEL).exists():
            raise BadModel(
                f"{name} {version}: {not_in_store}, and what MLflow has of it holds no {MLMODEL}"
            )
        try:
            found.rename(target)
        except OSError:
            if not _is_version(target):  # else another server with this folder was faster
                raise
    except (UnknownVersion, TrackingError) as error:
        raise BadModel(f"{name} {version}: {not_in_store}; MLflow: {error}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _is_version(folder: Path) -> bool:
    return any((folder / mark).exists() for mark in (MANIFEST, MLMODEL))
