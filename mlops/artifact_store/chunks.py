"""Cut files into chunks, choose compression, and put them together again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

import zstandard

from mlops.artifact_store.errors import CorruptArtifact
from mlops.artifact_store.manifest import CHUNK_BYTES, ArtifactManifest, Chunk, FileEntry

PROBE_BYTES: Final = 256 * 1024
"""Of a chunk, compressed to see whether it pays: weights in floating point rarely do."""
WORTHWHILE: Final = 0.9
"""Compressed size over size; above it the time is not worth it."""
ZSTD_LEVEL: Final = 3
_UNSAID: Final = -1
"""What zstandard tells of a frame that does not say how much it holds."""


@dataclass(frozen=True, slots=True)
class Source:
    """A file to store."""

    path: Path
    name: str
    size: int
    executable: bool


@dataclass(frozen=True, slots=True)
class Piece:
    """A chunk with its content as it is sent."""

    chunk: Chunk
    stored: bytes


def sources(path: Path) -> list[Source]:
    """A file, or all files below a folder in the order of their names. Links are followed.

    Raises:
        FileNotFoundError: nothing lies at `path`, or where a link below it leads; or the folder
            holds no file.
        ValueError: a link leads to a folder that it lies in, or a name is no text.
    """
    if path.is_file():
        return [_source(path, path.name)]
    if not path.is_dir():
        raise FileNotFoundError(f"{path} does not exist; expected a model's file or folder")
    files = sorted(_files_below(path, frozenset()))
    if not files:
        raise FileNotFoundError(f"{path} holds no file")
    return [_source(one, one.relative_to(path).as_posix()) for one in files]


def _files_below(folder: Path, around: frozenset[Path]) -> Iterator[Path]:
    """`around` are the folders that it lies in, as they are called without links."""
    real = folder.resolve()
    if real in around:
        raise ValueError(f"{folder} is a link to {real}, which it lies in")
    for one in folder.iterdir():
        if one.is_dir():
            yield from _files_below(one, around | {real})
        elif one.is_file():
            yield one
        elif one.is_symlink():
            raise FileNotFoundError(f"{one} is a link to {one.readlink()}, which does not exist")


def _source(path: Path, name: str) -> Source:
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{path.parent}: the name {name!r} is not UTF-8") from error
    status = path.stat()
    return Source(path, name, status.st_size, bool(status.st_mode & 0o100))


def read_chunks(path: Path) -> Iterator[bytes]:
    """The content in order, `CHUNK_BYTES` at a time; an empty file has none."""
    with path.open("rb") as file:
        while content := file.read(CHUNK_BYTES):
            yield content


def pack(content: bytes, *, compress: bool) -> Piece:
    """Name a chunk by its content and, where that pays, compress it."""
    digest = sha256(content).hexdigest()
    if compress and _pays(content):
        stored = zstandard.ZstdCompressor(level=ZSTD_LEVEL).compress(content)
        if len(stored) < WORTHWHILE * len(content):
            return Piece(Chunk(sha256=digest, size=len(content), compression="zstd"), stored)
    return Piece(Chunk(sha256=digest, size=len(content)), content)


def _pays(content: bytes) -> bool:
    middle = len(content) // 2
    probe = content[middle : middle + PROBE_BYTES]
    return len(zstandard.ZstdCompressor(level=1).compress(probe)) < WORTHWHILE * len(probe)


def unpack(chunk: Chunk, stored: bytes) -> bytes:
    """The content of a chunk.

    Raises:
        CorruptArtifact: it is not what was stored.
    """
    content = stored
    if chunk.compression == "zstd":
        try:
            # What a frame says of its content is made room for; `max_output_size` bounds the rest.
            if zstandard.frame_content_size(stored) not in {_UNSAID, chunk.size}:
                raise CorruptArtifact(f"{chunk.key} is not of the {chunk.size:,} bytes stored")
            content = zstandard.ZstdDecompressor().decompress(stored, max_output_size=chunk.size)
        except zstandard.ZstdError as error:
            raise CorruptArtifact(f"{chunk.key} cannot be decompressed: {error}") from error
    if len(content) != chunk.size or not is_content(chunk, content):
        raise CorruptArtifact(
            f"{chunk.key} holds {len(content):,} bytes that are not the {chunk.size:,} stored"
        )
    return content


def is_content(chunk: Chunk, content: bytes) -> bool:
    """Whether these bytes are the chunk's."""
    return sha256(content).hexdigest() == chunk.sha256


def holds(target: Path, manifest: ArtifactManifest) -> bool:
    """Whether exactly this version lies there."""
    if target.is_dir() != manifest.is_folder:
        return False
    if not manifest.is_folder:
        return _same_content(target, manifest.files[0])
    here = {one.relative_to(target).as_posix() for one in target.rglob("*") if one.is_file()}
    return here == {file.path for file in manifest.files} and all(
        _same_content(target / file.path, file) for file in manifest.files
    )


def _same_content(path: Path, file: FileEntry) -> bool:
    if path.stat().st_size != file.size:
        return False
    return all(
        is_content(chunk, content)
        for chunk, content in zip(file.chunks, read_chunks(path), strict=True)
    )
