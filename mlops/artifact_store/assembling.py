"""Where a version and its chunks go, on a disk that may hold some of them already."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from mlops.artifact_store.chunks import holds, is_content
from mlops.artifact_store.errors import DestinationExists, NoSpace
from mlops.artifact_store.manifest import ArtifactManifest, Chunk


class Place(NamedTuple):
    """Where a chunk goes in a file that is being put together."""

    path: Path
    offset: int
    chunk: Chunk
    is_begun: bool
    """By a download that broke off: the chunk may lie there already."""


def lay_out(manifest: ArtifactManifest, root: Path) -> list[Place]:
    """Make every file in its size, with nothing in it yet; where its chunks go."""
    places = []
    for file in manifest.files:
        path = root / file.path if manifest.is_folder else root
        path.parent.mkdir(parents=True, exist_ok=True)
        is_begun = path.exists()
        with path.open("ab") as made:
            made.truncate(file.size)
        if file.executable:
            path.chmod(0o755)
        offset = 0
        for chunk in file.chunks:
            places.append(Place(path, offset, chunk, is_begun))
            offset += chunk.size
    return places


def lies_there(place: Place) -> bool:
    """Whether a download that broke off had brought this chunk already."""
    with place.path.open("rb") as file:
        file.seek(place.offset)
        return is_content(place.chunk, file.read(place.chunk.size))


def lies_whole_at(target: Path, manifest: ArtifactManifest) -> bool:
    """Whether a version lies there already; what else lies there is not touched.

    Raises:
        DestinationExists: something else does.
    """
    if not target.exists() or _gives_way(target, manifest):
        return False
    if holds(target, manifest):
        return True
    raise DestinationExists(
        f"{target} exists and is not {manifest.model} {manifest.version}; nothing was changed"
    )


def _gives_way(target: Path, manifest: ArtifactManifest) -> bool:
    """An empty folder, such as `tempfile` makes: a folder is renamed over it."""
    is_folder = manifest.is_folder and target.is_dir() and not target.is_symlink()
    return is_folder and not any(target.iterdir())


@contextmanager
def disk_errors(what: str) -> Iterator[None]:
    """Raises NoSpace where this machine's disk is full."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise NoSpace(f"{what}: this machine's disk is full") from error
        raise
