"""The cache of chunks: whatever its disk does, only time is lost."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest
import zstandard

from mlops.artifact_store import CorruptArtifact
from mlops.artifact_store.cache import ChunkCache
from mlops.artifact_store.chunks import pack, unpack
from mlops.artifact_store.manifest import Chunk

CONTENT = b"retrieval" * 1000


def chunk_of(content: bytes) -> Chunk:
    return Chunk(sha256=sha256(content).hexdigest(), size=len(content))


def test_what_was_put_is_got_and_what_is_spoiled_is_not(tmp_path: Path) -> None:
    cache, chunk = ChunkCache(tmp_path, 10**6), chunk_of(CONTENT)
    assert cache.get(chunk) is None
    cache.put(chunk, CONTENT)
    assert cache.get(chunk) == CONTENT
    (file,) = (one for one in tmp_path.rglob("*") if one.is_file())
    file.write_bytes(b"spoiled")
    assert cache.get(chunk) is None
    assert not file.exists()


def test_a_folder_that_cannot_be_one_costs_no_download(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    cache, chunk = ChunkCache(tmp_path / "cache", 10**6), chunk_of(CONTENT)
    cache.put(chunk, CONTENT)
    assert cache.get(chunk) is None
    assert cache.trim() == cache.clear() == 0


def test_the_longest_unused_go_first(tmp_path: Path) -> None:
    cache = ChunkCache(tmp_path, 3 * len(CONTENT))
    chunks = [chunk_of(CONTENT + bytes([number])) for number in range(4)]
    for number, chunk in enumerate(chunks[:2]):
        cache.put(chunk, CONTENT + bytes([number]))
    assert cache.clear() == sum(one.size for one in chunks[:2])
    assert [cache.get(one) for one in chunks[:2]] == [None, None]


@pytest.mark.parametrize(
    "content", [CONTENT, b"", b"\x00" * 300_000], ids=["text", "none", "zeros"]
)
@pytest.mark.parametrize("compress", [True, False])
def test_a_chunk_comes_back_as_it_was(content: bytes, compress: bool) -> None:
    piece = pack(content, compress=compress)
    assert unpack(piece.chunk, piece.stored) == content


def test_a_frame_that_says_it_holds_more_is_refused_before_room_is_made_for_it() -> None:
    """Of zeros, a terabyte fits into a chunk."""
    bomb = zstandard.ZstdCompressor().compress(b"\x00" * 10**7)
    chunk = Chunk(sha256=sha256(CONTENT).hexdigest(), size=len(CONTENT), compression="zstd")
    with pytest.raises(CorruptArtifact, match="is not of the 9,000 bytes stored"):
        unpack(chunk, bomb)
