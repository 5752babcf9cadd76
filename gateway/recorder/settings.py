"""The recorder's settings: where the spool is, and how much is taken at a time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class RecorderSettings:
    """Bounds of one recorder; only the directory is a user's to choose."""

    spool_dir: Path
    batch_rows: int = 1_000
    """A batch is inserted when it has so many rows: below, ClickHouse pays more for each part."""
    most_rows: int = 4_000
    """As long as there is more to read at once, a batch grows up to this: catching up after an
    outage, four times the rows cost little more."""
    batch_s: float = 1.0
    """Or when its first record was read so long ago: the agent sees rows about so late."""
    batch_bytes: int = 8 * 1024**2
    """Or when its rows weigh so much: 4,000 with embeddings of 1,536 numbers would be 200 MB."""
    bytes_in_hand: int = 64 * 1024**2
    """Of all workers' batches together, two for each: with many workers each batch is lighter, so
    that a backlog of them all takes no more memory than one of a few."""
    poll_s: float = 0.03
    """Between two looks at a spool that has nothing new."""
    stop_s: float = 5.0
    """On SIGTERM, for the batches in hand. What is not acknowledged then is inserted next time."""
