"""Texts as the tokens that they hold, to be pooled with weights that are being learned. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
from scipy import sparse

from mlops.serving.embedder import Tokens, Vectors

Positions = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class TokenTexts:
    """Row i says how strongly each token of the vocabulary is in text i."""

    strengths: sparse.csr_array[np.float32, tuple[int, int]]

    @classmethod
    def of(cls, texts: Sequence[tuple[Tokens, Vectors]], vocabulary: int) -> Self:
        """From each text's different tokens and their strengths."""
        ends = np.cumsum([0, *(len(tokens) for tokens, _ in texts)])
        tokens = np.concatenate([np.zeros(0, np.intp), *(tokens for tokens, _ in texts)])
        strengths = np.concatenate([np.zeros(0, np.float32), *(found for _, found in texts)])
        shape = (len(texts), vocabulary)
        return cls(sparse.csr_array((strengths, tokens, ends), shape=shape, dtype=np.float32))

    def rows(self, which: Positions | slice) -> TokenTexts:
        """Some of the texts, in this order; one may come twice."""
        return TokenTexts(self.strengths[which])

    def used(self) -> Tokens:
        """Tokens that some text holds, in their order."""
        return np.unique(self.strengths.indices).astype(np.intp)

    def of_vocabulary(self, tokens: Tokens) -> TokenTexts:
        """The same texts by position in `tokens`, which holds all that they use."""
        found = sparse.csr_array(
            (
                self.strengths.data,
                np.searchsorted(tokens, self.strengths.indices),
                self.strengths.indptr,
            ),
            shape=(self.strengths.shape[0], len(tokens)),
        )
        return TokenTexts(found)

    def pooled(self, weights: Vectors, table: Vectors) -> Vectors:
        """One vector for each text: the weighted sum of its tokens' rows in `table`."""
        scaled = self.strengths.copy()
        scaled.data *= weights[scaled.indices]
        pooled: Vectors = scaled @ table
        return pooled

    def weight_gradient(self, slopes: Vectors, table: Vectors) -> Vectors:
        """By each token's weight, where `slopes` are those by the pooled vectors."""
        found: Vectors = np.einsum("td,td->t", self.strengths.T @ slopes, table)
        return found
