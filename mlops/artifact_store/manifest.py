"""What a stored version is made of: files, each a row of chunks named by their content. Pure.

The manifest is written last and never changed, so a version is there whole or not at all.
"""

from __future__ import annotations

import re
from datetime import datetime
from hashlib import sha256
from pathlib import PurePosixPath
from typing import Any, Final

import msgspec

FORMAT: Final = 1

CHUNK_BYTES: Final = 8 * 1024**2
"""Of a file at a time: what is sent, checked and sent again after a failure as one piece."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")


class Chunk(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of a file, stored under the digest of its content."""

    sha256: str
    """Of the content, before compression."""
    size: int
    compression: str = "none"
    """`none` or `zstd`."""

    @property
    def key(self) -> str:
        """Name of the object that holds it."""
        ending = ".zst" if self.compression == "zstd" else ""
        return f"chunks/{self.sha256[:2]}/{self.sha256}{ending}"


class FileEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a version."""

    path: str
    """Relative, with `/` between; the name alone where a single file was stored."""
    size: int
    executable: bool
    chunks: tuple[Chunk, ...]


class ArtifactManifest(msgspec.Struct, frozen=True, kw_only=True):
    """One version of one model."""

    model: str
    version: str
    created_at: datetime
    metadata: dict[str, Any]
    is_folder: bool
    files: tuple[FileEntry, ...]
    format: int = FORMAT

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    @property
    def digest(self) -> str:
        """Of the content alone: the same files give the same digest, whenever they were stored."""
        content = [
            (file.path, file.executable, [chunk.sha256 for chunk in file.chunks])
            for file in sorted(self.files, key=lambda one: one.path)
        ]
        return sha256(msgspec.json.encode((self.is_folder, content))).hexdigest()


def manifest_key(model: str, version: str) -> str:
    """Name of the object that holds a manifest."""
    return f"models/{model}/{version}/manifest.json"


def check_name(what: str, name: str) -> str:
    """A model's name or a version, as part of a key.

    Raises:
        ValueError: it is empty, too long, or has other characters than letters, digits and `._-`.
    """
    if not _NAME.match(name):
        raise ValueError(
            f"{what} {name!r} is not a name; expected 1 to 128 letters, digits, dots, dashes and "
            "underscores, beginning with a letter or digit"
        )
    return name


def decode(content: bytes) -> ArtifactManifest:
    """Read a manifest.

    Raises:
        ValueError: it is none, of a later format, or names a file outside of its folder.
    """
    manifest = msgspec.json.decode(content, type=ArtifactManifest)
    if manifest.format != FORMAT:
        raise ValueError(f"format {manifest.format}, expected {FORMAT}")
    for file in manifest.files:
        path = PurePosixPath(file.path)
        if path.is_absolute() or ".." in path.parts or not path.parts:
            raise ValueError(f"file {file.path!r} lies outside of the version")
        if sum(chunk.size for chunk in file.chunks) != file.size:
            raise ValueError(f"the chunks of {file.path!r} do not add up to {file.size:,} bytes")
    return manifest
