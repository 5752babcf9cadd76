"""How far one worker's records are acknowledged, and which ranges are on their way.

A range is on disk before it is inserted, and its token is made from it; so after any crash the same
records go in again under the same token, and the feature store stores them once.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from gateway.recorder.entries import NOBODY, Key
from gateway.recorder.untold import Untold
from gateway.spool.reader import Position
from gateway.spool.segments import FILE_MODE, sync_directory


class BadCursor(ValueError):
    """The file is not a cursor that this program can read."""


class Range(msgspec.Struct, frozen=True):
    """Records that are inserted together."""

    start: Position
    end: Position

    def token(self, worker: str) -> str:
        """What the feature store knows the batch by; unique over workers and time."""
        return f"{worker}/{self.start}..{self.end}"


class Cursor(msgspec.Struct, frozen=True):
    """Everything before `done` is in the feature store. `pending` follows it without a gap."""

    done: Position = Position()
    pending: tuple[Range, ...] = ()
    """In order. More than one only after a batch was refused and split."""
    last_second: int = 0
    """The first second that a final tally may be about: past every tally and row so far."""
    told: int = 0
    """The second of its last tally."""
    is_final: bool = False
    """The worker's own final tally has been stored."""
    untold: tuple[Untold, ...] = ()
    """Exchanges before `done` that no tally has counted."""
    key: Key = NOBODY
    """Of its last exchange: records that are lost after it are said to be of the same."""
    lost_at_end: int = 0
    """Records after the last one that is whole, as far as can be told, up to the end of what is
    pending; where nothing is, up to `done`."""


def load(path: Path) -> Cursor:
    """What `save` last wrote; the beginning if it never did.

    Raises:
        BadCursor: the file is not a cursor.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Cursor)
    except FileNotFoundError:
        return Cursor()
    except msgspec.DecodeError as exc:
        raise BadCursor(f"{path}: not a cursor: {exc}") from exc


def save(path: Path, cursor: Cursor, *, durable: bool) -> None:
    """Replace the file whole: after a power cut it holds this cursor or the one before, never less.

    With `durable` it is this one, which a range must be before it is inserted. An acknowledgement
    need not: if a power cut loses it, its range is inserted again in vain.

    Raises:
        OSError: the disk does not take it; what was saved before stands.
    """
    temporary = path.with_name(path.name + ".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, FILE_MODE)
    try:
        unwritten = memoryview(msgspec.json.encode(cursor))
        while unwritten:  # a disk that fills takes a part of it first
            unwritten = unwritten[os.write(descriptor, unwritten) :]
        os.fdatasync(descriptor)  # else the rename may reach the disk before the content
    finally:
        os.close(descriptor)
    temporary.replace(path)
    if durable:
        sync_directory(path.parent)
