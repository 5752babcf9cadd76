"""Where the chunks of a version go, on a disk that may hold some of them already."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from mlops.artifact_store.chunks import is_content
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
