"""Which version a server served last: started again, it goes on with it.

A gateway knows a version by the server's address. A server that came back with the version of its
command line would answer with that under the name of another.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from mlops.serving.files import write_whole


class LastServed(msgspec.Struct, frozen=True, kw_only=True):
    """A registered version, and what the server that loaded it was started with."""

    model: str
    version: str
    started_with: str


class Memory:
    """A file for each port, so that servers may share the folder. Nothing else reads it."""

    def __init__(self, folder: Path, port: int, started_with: Path) -> None:
        """`started_with` is the directory of the command line: with another one, what was served
        before no longer counts."""
        self.path = folder / f"served-{port}.json"
        self._started_with = str(started_with)

    def recall(self) -> LastServed | None:
        """None: nothing was loaded, or the command line has changed since."""
        try:
            last = msgspec.json.decode(self.path.read_bytes(), type=LastServed)
        except (OSError, msgspec.MsgspecError):
            return None
        return last if last.started_with == self._started_with else None

    def note(self, model: str, version: str) -> None:
        """From here on this version is what a restart serves."""
        last = LastServed(model=model, version=version, started_with=self._started_with)
        write_whole(self.path, msgspec.json.encode(last))

    def forget(self) -> None:
        """A restart serves what the command line says."""
        self.path.unlink(missing_ok=True)
