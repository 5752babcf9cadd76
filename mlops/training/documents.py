"""The documents that are searched, as the partition keeps them."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Self

import msgspec

from mlops.serving.corpus import Corpus
from mlops.serving.files import write_whole

NAME: Final = "documents.json"


class Documents(msgspec.Struct, frozen=True, kw_only=True):
    """What an index is built of. Parallel: position i is one document throughout."""

    digest: str
    """Of their contents; what a served version says that it was made for."""
    ids: list[str]
    passages: list[str]
    """What is embedded."""
    domains: list[str]
    """A name for each document's subject: slices of the evaluation. May be empty texts."""

    def __post_init__(self) -> None:
        if not len(self.ids) == len(self.passages) == len(self.domains):
            raise ValueError(
                f"{len(self.ids)} ids, {len(self.passages)} passages and {len(self.domains)} "
                "domains; expected one of each for every document"
            )
        if len(set(self.ids)) != len(self.ids):
            raise ValueError("two documents have the same id")

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def of_corpus(cls, corpus: Corpus) -> Self:
        """The documents that the model server here serves."""
        return cls(
            digest=corpus.digest,
            ids=[one.id for one in corpus.documents],
            passages=[one.passage for one in corpus.documents],
            domains=[one.domain for one in corpus.documents],
        )

    def write(self, folder: Path) -> None:
        """Into a partition, whole or not at all."""
        write_whole(folder / NAME, msgspec.json.encode(self))

    @classmethod
    def read(cls, folder: Path) -> Self:
        """As `write` left them.

        Raises:
            OSError: they are not there.
            msgspec.DecodeError: they are no documents.
        """
        return msgspec.json.decode((folder / NAME).read_bytes(), type=cls)
